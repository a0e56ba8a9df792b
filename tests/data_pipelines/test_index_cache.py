"""The kept binary index: never believed when it is old or damaged, never needed."""

import json
import os
import pickle
import subprocess
import sys
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from test_sources import members, read_all, tar_of

from ernie5.data_pipelines import data_files, index_cache, shard_index
from ernie5.data_pipelines.index_file import BLOCK_ROWS, Entry, IndexFile, IndexHeader, IndexWriter, sample_of
from ernie5.data_pipelines.sources import DamagedSample, ShardSource
from ernie5.data_pipelines.write_shards import ShardWriter, index_path


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Where indexes go that cannot lie beside the data; and no waiting for clocks."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    monkeypatch.setattr(data_files, "SETTLED_S", -1.0)
    return home


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path, "demo", samples_per_shard=4) as writer:
        for i in range(10):
            writer.write(f"{i:03d}", members(i), {"i": i})
    return writer.shards


@pytest.fixture
def web(tmp_path):
    return tar_of(tmp_path / "web.tar", [(f"{i}.{e}", bytes([65 + i]) * 700) for i in range(6) for e in ("jpg", "txt")])


def kept(folder):
    return sorted((folder / ".ernie5").glob("*.index"))


def never(*_):
    raise AssertionError("the kept index was not used")


def test_the_second_open_reads_no_json_and_scans_no_tar(shards, web, tmp_path, monkeypatch):
    first = ShardSource("s", tmp_path)
    assert [p.name for p in kept(tmp_path)] == [*(f"{p.name}.index" for p in shards), "web.tar.index"]
    monkeypatch.setattr(shard_index, "_add_json", never)
    monkeypatch.setattr(shard_index, "scan_tar", never)
    again = ShardSource("s", tmp_path)
    assert again.fingerprints == first.fingerprints and len(again) == 16
    assert [again.read(i) for i in range(16)] == [first.read(i) for i in range(16)]


def header():
    return IndexHeader(kind="k", file="f", stamp="s", settled=True, size=5, fingerprint="x", problems=(("a", "b"),))


@pytest.mark.parametrize("number", [0, 1, BLOCK_ROWS, BLOCK_ROWS + 1, 3 * BLOCK_ROWS])
def test_index_files_give_back_what_was_added(number):
    random = np.random.default_rng(number)
    samples = [(f"ключ/{i}", [Entry(f"{j}.txt", int(random.integers(2**62)), int(random.integers(2**40)), int(random.integers(2**32)))
                              for j in range(int(random.integers(4)))]) for i in range(number)]
    out = BytesIO()
    writer = IndexWriter(out)
    for key, entries in samples:
        writer.add(key, entries)
    writer.finish(header())
    index = IndexFile.of_bytes(out.getvalue())
    assert index.header.num_samples == number and index.header.problems == (("a", "b"),)
    for i, sample in enumerate(samples):
        assert sample_of(index.block(i // BLOCK_ROWS), i % BLOCK_ROWS, index.header.names) == sample


def test_every_damage_of_a_kept_index_is_noticed(shards, tmp_path, caplog):
    good_source = ShardSource("s", tmp_path)
    good_records = [good_source.read(i) for i in range(10)]
    place = kept(tmp_path)[1]
    good, random = place.read_bytes(), np.random.default_rng(0)
    assert not good.startswith(b"\x80") and b"\x93NUMPY" not in good
    changes = [good[:n] for n in (0, 5, len(good) // 2, len(good) - 1)] + [good + b"\0", good[::-1], kept(tmp_path)[0].read_bytes()]
    for offset in random.choice(np.arange(8, len(good)), 100, replace=False):
        bad = bytearray(good)
        bad[offset] ^= 1 << int(random.integers(8))
        changes.append(bytes(bad))
    for change in changes:
        place.write_bytes(change)
        source = ShardSource("s", tmp_path)
        assert [source.read(i) for i in range(10)] == good_records and source.fingerprints == good_source.fingerprints
        assert place.read_bytes() == good  # made again
    source = ShardSource("s", tmp_path)
    place.unlink()  # before its blocks were read
    assert source.read(5) == good_records[5] and place.exists()


def test_an_index_that_is_made_again_for_other_data_is_refused(web, tmp_path):
    source = ShardSource("s", web)
    kept(tmp_path)[0].unlink()
    tar_of(web, [("a.txt", b"other")])
    with pytest.raises(ValueError, match="web.tar changed while it was in use"):
        source.read(0)


@pytest.mark.parametrize("same_times", [False, True])
def test_a_foreign_shard_that_changes_is_noticed(web, tmp_path, same_times):
    source = ShardSource("s", web)
    saved, times = source.fingerprints, os.stat(web)
    data = bytearray(web.read_bytes())
    at = data.index(b"B" * 700)
    data[at] ^= 1
    web.write_bytes(bytes(data))  # same size
    if same_times:
        os.utime(web, ns=(times.st_atime_ns, times.st_mtime_ns))
    records, damaged = read_all(source)
    assert list(damaged) == [1] and "checksum" in damaged[1].reason and len(records) == 5
    with pytest.raises(ValueError, match="shard 'web' of source 's' was changed"):
        ShardSource("s", web).check_unchanged(saved)


def test_our_shard_of_another_size_is_refused_on_resume(shards, tmp_path):
    source = ShardSource("s", tmp_path)
    saved = dict(source.fingerprints)
    source.check_unchanged(saved)
    shards[1].write_bytes(shards[1].read_bytes()[:-600])
    with pytest.raises(ValueError, match="shard 'demo-000001' of source 's' was changed"):
        ShardSource("s", tmp_path).check_unchanged(saved)


def test_fingerprints_of_earlier_versions_still_count(shards, web, tmp_path):
    """A run that was begun before foreign tars had checksums goes on; the hash of an index is what it was."""
    import hashlib

    source = ShardSource("s", tmp_path)
    samples = tuple((str(i), tuple(Entry(e, 512 + (2 * i + j) * 1536, 700, None) for j, e in enumerate(("jpg", "txt")))) for i in range(6))
    old = hashlib.sha256(repr((web.stat().st_size, samples)).encode()).hexdigest()
    then = {p.stem: hashlib.sha256(index_path(p).read_bytes()).hexdigest() for p in shards}
    assert source.fingerprints == then | {"web": source.fingerprints["web"]} and source.fingerprints["web"] != old
    source.check_unchanged(then | {"web": old})
    with pytest.raises(ValueError, match="'web' of source 's' was changed"):
        source.check_unchanged(then | {"web": "0" * 64})


def test_a_stamp_that_is_too_young_is_not_believed(shards, web, tmp_path, monkeypatch):
    monkeypatch.setattr(data_files, "SETTLED_S", 3600.0)
    monkeypatch.setattr(data_files.LocalFile, "stamp", lambda self: data_files.Stamp("the clock stands still", False))
    saved = ShardSource("s", tmp_path).fingerprints
    text = index_path(shards[0]).read_text()
    index = json.loads(text)
    del index["crc32"]
    index_path(shards[0]).write_text(json.dumps(index).replace('"000"', '"00x"'))
    tar_of(web, [(f"{i}.{e}", bytes([65 + i % 2]) * 700) for i in range(6) for e in ("jpg", "txt")])
    now = ShardSource("s", tmp_path).fingerprints
    assert {name for name in now if now[name] != saved[name]} == {"demo-000000", "web"}
    index_path(shards[0]).write_text(text)
    assert ShardSource("s", tmp_path).fingerprints["demo-000000"] == saved["demo-000000"]


def test_a_touched_index_is_compared_by_content_and_kept(shards, tmp_path, monkeypatch):
    ShardSource("s", tmp_path)
    os.utime(index_path(shards[0]))
    monkeypatch.setattr(shard_index, "_add_json", never)
    source = ShardSource("s", tmp_path)
    monkeypatch.setattr(shard_index, "_text_of", never)
    assert ShardSource("s", tmp_path).read(1) == source.read(1)


@pytest.mark.parametrize("obstacle", ["file", "link", "refused"])
def test_data_that_nobody_may_write_to(shards, tmp_path, cache, monkeypatch, obstacle):
    beside, elsewhere = tmp_path / ".ernie5", cache / "elsewhere"
    if obstacle == "file":
        beside.write_text("")
    elif obstacle == "link":
        elsewhere.mkdir()
        beside.symlink_to(elsewhere)
    else:
        real = index_cache._partial
        monkeypatch.setattr(index_cache, "_partial", lambda place: None if place.parent == beside else real(place))
    source = ShardSource("s", tmp_path)
    assert len(list((cache / "ernie5" / "index").glob("*.index"))) == 3
    assert not elsewhere.exists() or not list(elsewhere.iterdir())
    monkeypatch.setattr(shard_index, "_add_json", never)
    assert ShardSource("s", tmp_path).read(7) == source.read(7)


def test_nothing_can_be_kept_anywhere(shards, tmp_path, cache):
    (tmp_path / ".ernie5").write_text("")
    (cache / "ernie5").write_text("")
    source = ShardSource("s", tmp_path)
    assert [m.data for m in pickle.loads(pickle.dumps(source)).read(9).members] == [m.data for m in members(9)]


def test_a_full_disk_is_no_obstacle(shards, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(index_cache.os, "replace", full)
    assert len(ShardSource("s", tmp_path)) == 10
    assert not [p.name for p in (tmp_path / ".ernie5").iterdir() if p.name != "lock"]


def test_a_replaced_shard_is_seen_while_it_is_open(shards, tmp_path):
    source = ShardSource("s", tmp_path)
    assert source.read(0).members == members(0)
    other = tmp_path / "other"
    other.write_bytes(bytes(shards[0].stat().st_size))
    os.replace(other, shards[0])
    with pytest.raises(DamagedSample, match="checksum"):
        source.read(0)
    shards[0].unlink()
    with pytest.raises(DamagedSample, match="No such file"):
        source.read(1)


def test_open_files_are_bounded_and_closed(tmp_path, monkeypatch):
    from ernie5.data_pipelines import indexed_files

    monkeypatch.setattr(indexed_files, "OPEN_FILES", 3)
    with ShardWriter(tmp_path, "demo", samples_per_shard=1) as writer:
        for i in range(12):
            writer.write(f"{i:03d}", members(i), {})
    before = len(os.listdir("/proc/self/fd"))
    source = ShardSource("s", tmp_path)
    for i in [*range(12), *range(12)]:
        source.read(i)
        assert len(os.listdir("/proc/self/fd")) <= before + 3
    del source
    assert len(os.listdir("/proc/self/fd")) == before


def test_threads_read_side_by_side(tmp_path, monkeypatch):
    from concurrent.futures import ThreadPoolExecutor

    from ernie5.data_pipelines import indexed_files

    monkeypatch.setattr(indexed_files, "OPEN_FILES", 2)
    monkeypatch.setattr(indexed_files, "BLOCK_BYTES", 1)
    with ShardWriter(tmp_path, "demo", samples_per_shard=2) as writer:
        for i in range(20):
            writer.write(f"{i:03d}", members(i), {})
    source = ShardSource("s", tmp_path)
    order = [int(i) for i in np.random.default_rng(0).integers(20, size=600)]
    with ThreadPoolExecutor(8) as pool:
        assert [r.members for r in pool.map(source.read, order)] == [members(i) for i in order]


def test_a_hostile_index_cannot_ask_for_more_than_there_is(shards, tmp_path):
    index = json.loads(index_path(shards[0]).read_text())
    del index["crc32"]
    whole = {"offset": 0, "length": index["size"], "crc32": 0}
    index["samples"][0]["members"] = [{"name": f"{i}.txt"} | whole for i in range(200)]
    index["samples"][1]["members"][0]["crc32"] = 2**40
    index_path(shards[0]).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="is no CRC-32|is not a CRC-32"):
        ShardSource("s", tmp_path)
    index["samples"][1]["members"][0]["crc32"] = 0
    index_path(shards[0]).write_text(json.dumps(index))
    with pytest.raises(DamagedSample, match="they overlap"):
        ShardSource("s", tmp_path).read(0)


def test_what_a_header_names_is_bounded(tmp_path, monkeypatch):
    from ernie5.data_pipelines import index_file, scan_tar

    monkeypatch.setattr(scan_tar, "MAX_PROBLEMS", 3)
    bad, many = [(f"../{i}.txt", b"bad") for i in range(9)], [(f"b.{i}.txt", b"") for i in range(99)]
    tar = tar_of(tmp_path / "t.tar", [("a.txt", b"good"), *bad, *many])
    source = ShardSource("s", tar)
    assert len(source) == 2 and len(source.problems) == 4 and source.problems[-1] == ("s/t/(more)", "6 more are like these")
    monkeypatch.setattr(index_file, "MAX_HEADER_BYTES", 900)
    with pytest.raises(ValueError, match="t.tar have 100 different endings"):
        ShardSource("s", tar)


def test_processes_that_open_at_once_make_an_index_once(web, tmp_path):
    code = f"from ernie5.data_pipelines.sources import ShardSource; s = ShardSource('s', {str(web)!r}); print(s.fingerprint, len(s))"
    root = Path(data_files.__file__).parents[2]
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    assert len({process.communicate(timeout=60)[0] for process in running}) == 1
    assert [p.name for p in (tmp_path / ".ernie5").iterdir() if p.suffix == ".tmp"] == []
    started = time.monotonic()
    assert len(ShardSource("s", web)) == 6 and time.monotonic() - started < 1
