"""Shards out: deterministic, readable by webdataset, indexed, and never half there."""

import gc
import json
import tarfile
import zlib

import pytest

from ernie5.data_pipelines.write_shards import Member, ShardWriter, index_path
from ernie5.sequence import Modality

CAPTION = Member(Modality.TEXT, "txt", "a red square, ümläut".encode())
PICTURE = Member(Modality.IMAGE, "png", bytes(range(256)) * 5)


def write(folder, count=5, **options):
    with ShardWriter(folder, "demo", **options) as writer:
        for i in range(count):
            writer.write(f"{i:03d}", [CAPTION, PICTURE], {"class": i, "source": "test"})
    return writer.shards


def test_names_and_contents(tmp_path):
    shards = write(tmp_path, 5, samples_per_shard=2)
    assert [p.name for p in shards] == ["demo-000000.tar", "demo-000001.tar", "demo-000002.tar"]
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([p.name for p in shards] + [index_path(p).name for p in shards])
    with tarfile.open(shards[0]) as tar:
        assert tar.getnames() == ["000.0.txt", "000.1.png", "000.json", "001.0.txt", "001.1.png", "001.json"]
        assert tar.extractfile("001.1.png").read() == PICTURE.data
        assert all(m.mtime == 0 and m.uid == 0 and m.gid == 0 and not m.uname for m in tar.getmembers())
        assert json.load(tar.extractfile("001.json")) == {
            "segments": [{"modality": "text", "member": "0.txt"}, {"modality": "image", "member": "1.png"}],
            "attributes": {"class": 1, "source": "test"}}


def test_same_samples_same_bytes(tmp_path):
    first, second = write(tmp_path / "a")[0], write(tmp_path / "b")[0]
    assert first.read_bytes() == second.read_bytes()
    assert index_path(first).read_bytes() == index_path(second).read_bytes()


def test_index_points_at_the_bytes(tmp_path):
    path = write(tmp_path)[0]
    index, data = json.loads(index_path(path).read_text()), path.read_bytes()
    assert index["format"] == 1 and index["tar"] == path.name and index["size"] == len(data)
    assert [s["key"] for s in index["samples"]] == ["000", "001", "002", "003", "004"]
    with tarfile.open(path) as tar:
        for sample in index["samples"]:
            for m in sample["members"]:
                part = data[m["offset"]:m["offset"] + m["length"]]
                assert part == tar.extractfile(f"{sample['key']}.{m['name']}").read()
                assert zlib.crc32(part) == m["crc32"]


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")  # webdataset closes no file
def test_webdataset_reads_it(tmp_path):
    webdataset = pytest.importorskip("webdataset")
    paths = [str(p) for p in write(tmp_path, 5, samples_per_shard=2)]
    samples = list(webdataset.WebDataset(paths, shardshuffle=False))
    assert [s["__key__"] for s in samples] == ["000", "001", "002", "003", "004"]
    assert all(s["0.txt"] == CAPTION.data and s["1.png"] == PICTURE.data for s in samples)
    assert json.loads(samples[3]["json"])["attributes"]["class"] == 3
    gc.collect()


def test_empty_and_large_members_keep_offsets_right(tmp_path):
    sizes = [0, 1, 511, 512, 513, 100_000]
    with ShardWriter(tmp_path, "demo") as writer:
        writer.write("a", [Member(Modality.AUDIO, "wav", b"x" * n) for n in sizes], {})
    data, sample = writer.shards[0].read_bytes(), json.loads(index_path(writer.shards[0]).read_text())["samples"][0]
    for n, m in zip(sizes, sample["members"], strict=False):
        assert m["length"] == n and data[m["offset"]:m["offset"] + n] == b"x" * n


@pytest.mark.parametrize("key", ["../up", "a/b", "a.b", "", "/etc/x", "a\0b", "k" * 65, "ä", "a\n"])
def test_bad_keys_are_refused(tmp_path, key):
    with ShardWriter(tmp_path, "demo") as writer, pytest.raises(ValueError, match="sample key"):
        writer.write(key, [CAPTION], {})
    assert writer.shards == []
    with pytest.raises(ValueError, match="shard name"):
        ShardWriter(tmp_path, key)


def test_what_cannot_be_stored_is_refused(tmp_path):
    with ShardWriter(tmp_path, "demo") as writer:
        writer.write("a", [CAPTION], {})
        with pytest.raises(ValueError, match="written twice"):
            writer.write("a", [CAPTION], {})
        with pytest.raises(ValueError, match="no members"):
            writer.write("b", [], {})
        with pytest.raises(ValueError, match="extension '../x'"):
            writer.write("b", [Member(Modality.TEXT, "../x", b"")], {})
        with pytest.raises(ValueError, match="cannot be stored as JSON"):
            writer.write("b", [CAPTION], {"loss": float("nan")})
        with pytest.raises(ValueError, match="attribute 'data' of sample 'b' must be"):
            writer.write("b", [CAPTION], {"data": b"bytes"})
        with pytest.raises(ValueError, match="cannot be stored as JSON"):
            writer.write("b", [CAPTION], {"half": "\ud800"})
    assert [s["key"] for s in json.loads(index_path(writer.shards[0]).read_text())["samples"]] == ["a"]


def test_an_interrupted_writer_leaves_only_whole_shards(tmp_path):
    with pytest.raises(RuntimeError), ShardWriter(tmp_path, "demo", samples_per_shard=2) as writer:
        for i in range(3):
            writer.write(f"{i}", [CAPTION], {})
        raise RuntimeError("stop")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo-000000.index.json", "demo-000000.tar"]


def test_old_shards_are_not_mixed_with_new_ones(tmp_path):
    write(tmp_path, 5, samples_per_shard=1)
    (tmp_path / "demo-x.tar").touch()
    with pytest.raises(ValueError, match="already holds shards named 'demo'"):
        write(tmp_path, 1)
    write(tmp_path, 1, overwrite=True)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["demo-000000.index.json", "demo-000000.tar", "demo-x.tar"]
