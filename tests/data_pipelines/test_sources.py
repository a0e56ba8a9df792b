"""Shards in: what was written comes back, and nothing else ever does."""

import io
import json
import pickle
import tarfile

import numpy as np
import pytest

from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.sources import DamagedSample, ShardSource
from ernie5.data_pipelines.write_shards import Member, ShardWriter, index_path
from ernie5.sequence import Modality


def members(i):
    return (Member(Modality.IMAGE, "png", bytes([i]) * (700 + i)), Member(Modality.TEXT, "txt", f"caption {i}".encode()))


@pytest.fixture
def shards(tmp_path):
    with ShardWriter(tmp_path, "demo", samples_per_shard=4) as writer:
        for i in range(10):
            writer.write(f"{i:03d}", members(i), {"i": i})
    return writer.shards


def read_all(source):
    """Records by number, and reasons of the damaged ones."""
    records, damaged = {}, {}
    for i in range(len(source)):
        try:
            records[i] = source.read(i)
        except DamagedSample as error:
            damaged[i] = error
    return records, damaged


def tar_of(path, files, end=True):
    """A tar as other people write it; a value may be bytes or a prepared TarInfo."""
    with tarfile.open(path, "w") as tar:
        for name, data in files:
            info = data if isinstance(data, tarfile.TarInfo) else tarfile.TarInfo(name)
            if isinstance(data, bytes):
                info.size = len(data)
            tar.addfile(info, io.BytesIO(data) if isinstance(data, bytes) else None)
        length = tar.offset
    if not end:
        path.write_bytes(path.read_bytes()[:length])
    return path


def link(name, target, kind=tarfile.SYMTYPE):
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize("indexed", [True, False])
def test_what_was_written_comes_back(shards, indexed):
    for tar in () if indexed else shards:
        index_path(tar).unlink()
    source = ShardSource("mine", shards[0].parent)
    assert len(source) == 10 and source.problems == []
    for i in (9, 0, 4, 3, 7):
        record = source.read(i)
        assert record.id == f"mine/demo-{i // 4:06d}/{i:03d}"
        assert record.members == members(i) and record.attributes == {"i": i}
    for i in (-1, 10):
        with pytest.raises(IndexError, match="10 samples"):
            source.read(i)


def test_paths(shards, tmp_path):
    assert len(ShardSource("s", str(tmp_path / "demo-*.tar"))) == 10
    assert len(ShardSource("s", [shards[0], str(shards[2])])) == 6
    for path in (tmp_path / "nothing", tmp_path / "no-*.tar", tmp_path / "x.tar"):
        with pytest.raises(ValueError, match=f"data.sources: source 's' has no shards at .*{path.name[-4:]}"):
            ShardSource("s", path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="data.sources"):
        ShardSource("s", tmp_path / "empty")
    with pytest.raises(ValueError, match="two shards named demo-000000"):
        ShardSource("s", [shards[0], shards[0]])
    with pytest.raises(ValueError, match="data.sources"):
        ShardSource("s", [])
    shards[1].unlink()
    with pytest.raises(ValueError, match="demo-000001.index.json has no tar"):
        ShardSource("s", tmp_path)


def test_a_source_can_be_sent_to_a_worker(shards):
    source = ShardSource("s", shards)
    assert pickle.loads(pickle.dumps(source)).read(5) == source.read(5)


def test_fingerprints_tell_changed_data(shards, tmp_path):
    source = ShardSource("s", tmp_path)
    before, saved = source.fingerprint, json.loads(json.dumps(source.fingerprints))
    assert ShardSource("other name", tmp_path).fingerprint == before
    source.check_unchanged(saved)
    fewer = ShardSource("s", shards[:2])
    assert fewer.fingerprint != before
    with pytest.raises(ValueError, match="'demo-000002' of source 's' is missing"):
        fewer.check_unchanged(saved)
    with pytest.raises(ValueError, match="'demo-000002' of source 's' is new"):
        source.check_unchanged(fewer.fingerprints)
    with ShardWriter(tmp_path, "demo", samples_per_shard=4, overwrite=True) as writer:
        for i in range(10):
            writer.write(f"{i:03d}", members(i if i != 5 else 6), {"i": i})
    assert ShardSource("s", tmp_path).fingerprint != before
    with pytest.raises(ValueError, match="data.sources: shard 'demo-000001' of source 's' was changed"):
        ShardSource("s", tmp_path).check_unchanged(saved)


@pytest.mark.parametrize("part", [0.0, 0.2, 0.5, 0.9])
def test_a_truncated_shard_gives_exactly_its_whole_samples(shards, part, tmp_path):
    data = shards[1].read_bytes()
    samples = json.loads(index_path(shards[1]).read_text())["samples"]
    size = int(len(data) * part)
    shards[1].write_bytes(data[:size])
    whole = [4 + i for i, s in enumerate(samples) if all(m["offset"] + m["length"] <= size for m in s["members"])]
    log = tmp_path / "logs" / "q.jsonl"
    source = ShardSource("s", tmp_path, Quarantine(log))
    records, damaged = read_all(source)
    assert sorted(records) == [0, 1, 2, 3, *whole, 8, 9] and len(records) + len(damaged) == 10
    assert all(records[i].members == members(i) for i in records)
    for i, error in damaged.items():
        assert (error.shard, error.key) == ("demo-000001", f"{i:03d}") and "cut or changed" in error.reason
    assert "its index says" in log.read_text() and "s/demo-000001" in log.read_text()


def test_every_changed_byte_is_noticed(shards):
    good = shards[0].read_bytes()
    rng, source = np.random.default_rng(0), ShardSource("s", shards)
    samples = json.loads(index_path(shards[0]).read_text())["samples"]
    where = {m["offset"] + j: i for i, s in enumerate(samples) for m in s["members"] for j in range(m["length"])}
    for offset in rng.choice(list(where), 100, replace=False):
        bad = bytearray(good)
        bad[offset] ^= 1 << int(rng.integers(8))
        shards[0].write_bytes(bytes(bad))
        records, damaged = read_all(source)
        assert list(damaged) == [where[int(offset)]] and "checksum" in damaged[where[int(offset)]].reason
        assert all(records[i].members == members(i) for i in records)


def test_swapped_shards_and_indexes(shards):
    shards[0].write_bytes(shards[1].read_bytes())
    records, damaged = read_all(ShardSource("s", shards))
    assert sorted(damaged) == [0, 1, 2, 3] and len(records) == 6
    index_path(shards[1]).write_bytes(index_path(shards[2]).read_bytes())
    with pytest.raises(ValueError, match="demo-000001.index.json is damaged.*belongs to 'demo-000002.tar'"):
        ShardSource("s", shards)


def test_a_shard_that_vanishes_or_is_rewritten_while_in_use(shards):
    source = ShardSource("s", shards)
    shards[0].unlink()
    with pytest.raises(DamagedSample, match="No such file"):
        source.read(0)
    index_path(shards[1]).write_text(index_path(shards[1]).read_text() + " ")
    with pytest.raises(ValueError, match="changed while it was in use"):
        source.read(4)


@pytest.mark.parametrize("change", [
    lambda i: i.update(format=2), lambda i: i.update(size=-1), lambda i: i.update(samples=5), lambda i: i.pop("tar"),
    lambda i: i["samples"][0]["members"][0].update(offset=-5), lambda i: i["samples"][0]["members"][0].update(length="1"),
    lambda i: i["samples"][0]["members"][0].update(length=True), lambda i: i["samples"][0].update(key=3),
    lambda i: i["samples"][0].update(key=i["samples"][1]["key"]), lambda i: i["samples"][0].update(key="a\0b"),
])
def test_damaged_indexes_are_refused(shards, change):
    index = json.loads(index_path(shards[0]).read_text())
    del index["crc32"]  # who lies on purpose leaves it out
    change(index)
    index_path(shards[0]).write_text(json.dumps(index))
    with pytest.raises(ValueError, match="demo-000000.index.json is damaged"):
        ShardSource("s", shards)


@pytest.mark.parametrize("name", ["../up", "a/../../up", "/etc/passwd", "a\\b", "a\0b", "a\nb", "n" * 300, "", None])
def test_hostile_names_in_an_index_are_refused(shards, name):
    canary = shards[0].parent.parent / "up.txt"
    canary.write_text("secret")
    text = index_path(shards[0]).read_text()
    for change in (lambda i: i.update(tar=name), lambda i: i["samples"][0].update(key=name),
                   lambda i: i["samples"][0]["members"][0].update(name=name and f"{name}.txt")):
        index = json.loads(text)
        del index["crc32"]
        change(index)
        index_path(shards[0]).write_text(json.dumps(index))
        with pytest.raises(ValueError, match="demo-000000.index.json is damaged"):
            ShardSource("s", shards)
    assert canary.read_text() == "secret"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"format": 1}', "\udcff"])
def test_indexes_that_are_no_index(shards, text):
    index_path(shards[0]).write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match="demo-000000.index.json is damaged"):
        ShardSource("s", shards)


@pytest.mark.parametrize("old, new", [('"key":"000"', '"key":"00x"'), ('"000"', '"001"'), ("}]}]}", "}]}]} "), ('"crc32":', '"crc32": 1')])
def test_any_change_of_an_index_shows_in_its_checksum(shards, old, new):
    text = index_path(shards[0]).read_text()
    assert old in text
    index_path(shards[0]).write_text(text.replace(old, new, 1))
    with pytest.raises(ValueError, match="demo-000000.index.json is damaged .*checksum is wrong"):
        ShardSource("s", shards)


def test_an_index_without_a_checksum_is_an_older_one(shards):
    index = json.loads(index_path(shards[0]).read_text())
    del index["crc32"]
    index_path(shards[0]).write_text(json.dumps(index, separators=(",", ":")))
    assert read_all(ShardSource("s", shards))[1] == {}


@pytest.mark.parametrize("zeros", [20_000, 512])
def test_zeros_where_a_header_was_are_noticed(tmp_path, zeros):
    files = [(f"{i}.{e}", b"x" * 700) for i in range(3) for e in ("jpg", "txt")]
    tar = tar_of(tmp_path / "web.tar", files)
    data = tar.read_bytes()
    tar.write_bytes(bytes(zeros) if zeros > 512 else data[:1536 * 3] + bytes(zeros) + data[1536 * 3 + zeros:])  # the header of 1.txt
    source = ShardSource("web", tar)
    assert len(source.problems) == 1 and ("all of them zeros" if zeros > 512 else "more behind an end mark") in source.problems[0][1]
    assert [source.read(i).id for i in range(len(source))] == ([] if zeros > 512 else ["web/web/0"])
    tar.write_bytes(data + data)
    assert "more behind an end mark" in ShardSource("web", tar).problems[0][1]


def test_lengths_that_lie_allocate_nothing(shards):
    index = json.loads(index_path(shards[0]).read_text())
    del index["crc32"]
    index["samples"][0]["members"][0]["length"] = 2**40
    index["samples"][1]["members"][0]["length"] = 2**27
    index_path(shards[0]).write_text(json.dumps(index))
    _, damaged = read_all(ShardSource("s", shards))
    assert list(damaged) == [0, 1] and "more than the" in damaged[0].reason and "cut or changed" in damaged[1].reason


def test_other_peoples_tars(tmp_path):
    tar = tar_of(tmp_path / "web.tar", [
        ("./a/001.jpg", b"J1"), ("./a/001.json", b'{"width": 5, "nested": [1]}'), ("./a/001.txt", b"one"), ("./a/001.cls", b"3"),
        ("a/002.jpg", b"J2"), ("a/003.wav", b"W3"), ("a/003.JPEG", b"J3"), ("README", b"hello"), ("__MACOSX/._a.jpg", b"x")])
    source = ShardSource("web", tar)
    assert [source.read(i).id for i in range(3)] == ["web/web/a/001", "web/web/a/002", "web/web/a/003"]
    assert source.read(0).members == (Member(Modality.TEXT, "txt", b"one"), Member(Modality.IMAGE, "jpg", b"J1"))
    assert source.read(0).attributes == {"width": 5}
    assert source.read(2).members == (Member(Modality.IMAGE, "jpeg", b"J3"), Member(Modality.AUDIO, "wav", b"W3"))
    assert [reason for _, reason in source.problems] == [
        "1 members ending .cls are not used", "1 members named '._a.jpg' are not used", "1 members named 'README' are not used"]


def test_long_names_and_pax_headers(tmp_path):
    name = "d/" + "n" * 180
    tar = tar_of(tmp_path / "web.tar", [(f"{name}.jpg", b"1"), ("ü.txt", "ü".encode())])
    source = ShardSource("web", tar)
    assert source.read(0).id == f"web/web/{name}" and source.read(1).members[0].data == "ü".encode()


@pytest.mark.parametrize("cut", ["data", "header", "member", "mark", "zeros"])
def test_a_cut_tar_without_index_keeps_whole_samples_only(tmp_path, cut):
    files = [(f"{i:03d}.{ending}", bytes([i]) * 900) for i in range(5) for ending in ("jpg", "txt")]
    tar = tar_of(tmp_path / "web.tar", files, end=False)
    data = tar.read_bytes()  # each member takes 512 + 1024 bytes
    size = {"data": 7 * 1536 + 512 + 100, "header": 8 * 1536 + 100, "member": 7 * 1536, "mark": len(data), "zeros": 7 * 1536 + 600}[cut]
    tar.write_bytes(data[:size] + (b"\1" * 512 if cut == "header" else b""))
    whole = {"data": 3, "header": 3, "member": 3, "mark": 4, "zeros": 3}[cut]
    quarantine = Quarantine(tmp_path / "q.jsonl")
    source = ShardSource("web", tar, quarantine)
    assert len(source) == whole
    for i in range(whole):
        assert [m.data for m in source.read(i).members] == [bytes([i]) * 900] * 2
    (line,) = (tmp_path / "q.jsonl").read_text().splitlines()
    assert json.loads(line)["kind"] == "warning" and f"web/web/{whole:03d}" in line and "incomplete" in line


def test_hostile_members_are_not_read(tmp_path):
    canary = tmp_path / "canary.txt"
    canary.write_text("secret")
    device = tarfile.TarInfo("005.txt")
    device.type, device.devmajor, device.devminor = tarfile.CHRTYPE, 1, 3
    pipe = tarfile.TarInfo("006.txt")
    pipe.type = tarfile.FIFOTYPE
    tar = tar_of(tmp_path / "evil.tar", [
        ("000.txt", b"good"), ("../../up.txt", b"up"), ("/etc/x.txt", b"abs"), ("a/../../b.txt", b"dots"),
        ("003.jpg", b"pic"), ("", link("003.txt", str(canary))), ("", link("004.txt", "000.txt", tarfile.LNKTYPE)),
        ("", device), ("", pipe),
        ("x" * 300 + ".txt", b"long"), ("n\nl.txt", b"newline"), ("b\\c.txt", b"backslash"), ("007.txt", b"good too")])
    source = ShardSource("evil", tar)
    assert [source.read(i).members[0].data for i in range(len(source))] == [b"good", b"good too"]
    reasons = dict(source.problems)
    assert len(reasons) == 10 and all("evil/evil/" in key and key.isprintable() for key in reasons)
    assert "is a link" in reasons["evil/evil/003"] and "unsafe name" in reasons["evil/evil/../../up"]
    assert "not a plain file" in reasons["evil/evil/005"]
    assert canary.read_text() == "secret" and sorted(p.name for p in tmp_path.iterdir()) == [".ernie5", "canary.txt", "evil.tar"]
