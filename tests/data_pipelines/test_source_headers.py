"""Shards whose headers lie: no wrong sample, no mixed sample."""

import pickle

import numpy as np
import pytest
from test_sources import read_all, tar_of

from ernie5.data_pipelines.sources import DamagedSample, ShardSource
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality


def members(i):
    return (Member(Modality.IMAGE, "png", bytes([i]) * (700 + i)), Member(Modality.TEXT, "txt", f"caption {i}".encode()))


def test_a_key_that_comes_back_is_no_sample(tmp_path):
    tar = tar_of(tmp_path / "t.tar", [("a.jpg", b"1"), ("b.txt", b"b"), ("a.txt", b"2"), ("c.txt", b"3"), ("c.txt", b"4")])
    source = ShardSource("s", tar)
    assert len(source) == 1 and source.read(0).members[0].data == b"b"
    assert {key for key, _ in source.problems} == {"s/t/a", "s/t/c"}


def test_changed_headers_never_mix_samples(tmp_path):
    files = [(f"{i:03d}.{ending}", bytes([i]) * 700) for i in range(6) for ending in ("jpg", "txt")]
    good = tar_of(tmp_path / "t.tar", files).read_bytes()
    rng = np.random.default_rng(0)
    for _ in range(150):
        bad = bytearray(good)
        for _ in range(3):
            bad[int(rng.integers(12)) * 1536 + int(rng.integers(512))] = int(rng.integers(256))
        (tmp_path / "t.tar").write_bytes(bytes(bad))
        try:
            source = ShardSource("s", tmp_path / "t.tar")
        except ValueError as error:
            assert "not a plain tar" in str(error)
            continue
        records, _ = read_all(source)
        for record in records.values():
            assert len({m.data for m in record.members}) == 1


def test_negative_sizes_and_what_is_no_tar(tmp_path):
    tar = tar_of(tmp_path / "t.tar", [("a.txt", b"1"), ("b.txt", b"2")])
    data = bytearray(tar.read_bytes())
    header = data[1024:1536]
    header[124:136] = b"\xff" * 8 + (2**32 - 1024).to_bytes(4, "big")  # minus 1024, as GNU tar writes negative numbers
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    data[1024:1536] = header
    tar.write_bytes(bytes(data))
    source = ShardSource("s", tar)
    assert len(source) == 0 and "backwards" in source.problems[0][1]
    for content in (b"", b"\x1f\x8b\x08" + bytes(600), b"hello" * 300):
        tar.write_bytes(content)
        with pytest.raises(ValueError, match="data.sources: .*not a plain tar"):
            ShardSource("s", tar)


@pytest.mark.parametrize("header", [
    b"{", b"[" * 100_000, b'{"segments": 5}', b'{"segments": [5]}', b'{"segments": [{"modality": "text", "member": "9.txt"}]}',
    b'{"segments": [{"modality": "smell", "member": "0.txt"}]}', b'{"segments": []}', b"\xff\xfe",
    b'{"segments": [{"modality": "text", "member": "../0.txt"}]}', b'{"segments": [{"modality": [], "member": "0.txt"}]}'])
def test_bad_sample_headers_are_damage(tmp_path, header):
    tar = tar_of(tmp_path / "t.tar", [("a.0.txt", b"1"), ("a.json", header)])
    with pytest.raises(DamagedSample) as caught:
        ShardSource("s", tar).read(0)
    assert (caught.value.shard, caught.value.key) == ("t", "a") and caught.value.reason
    again = pickle.loads(pickle.dumps(caught.value))
    assert (again.sample_id, again.shard, again.reason) == ("s/t/a", "t", caught.value.reason)
