"""Lines of JSON: each is found, each is checked, a bad one costs itself and nothing else."""

import json
import pickle
import resource

import numpy as np
import pytest
from test_sources import read_all

from ernie5.data_pipelines import data_files, source_jsonl
from ernie5.data_pipelines.source import MAX_JSON_BYTES
from ernie5.data_pipelines.sources import DamagedSample, SourceConfig, open_source


@pytest.fixture(autouse=True)
def no_waiting_for_clocks(monkeypatch):
    monkeypatch.setattr(data_files, "SETTLED_S", -1.0)


def source(path, *fields):
    return open_source("s", SourceConfig(str(path), fields=fields))


def texts(found):
    return [found.read(i).members[0].data.decode() for i in range(len(found))]


@pytest.mark.parametrize("chunk", [1, 3, 7, 64, 2**20])
def test_lines_wherever_they_end(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(source_jsonl, "_CHUNK", chunk)
    lines = ["".join(np.random.default_rng(i).choice(list("aé漢\n\"\\ "), i * 3)) for i in range(12)]
    path = tmp_path / "a.jsonl"
    encoded = [json.dumps({"text": t, "n": i, "list": [1]}, ensure_ascii=bool(i % 2)) for i, t in enumerate(lines)]
    path.write_bytes(b"\xef\xbb\xbf" + "\r\n \n\n".join(encoded).encode())
    found = source(path)
    assert len(found) == 12 and texts(found) == lines
    assert found.read(5).id == "s/a/00000005" and found.read(5).attributes == {"n": 5}
    assert texts(pickle.loads(pickle.dumps(found))) == lines


def test_several_texts_of_a_line_and_several_files(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"q": "two?", "meta": {"a": "2"}}\n')
    (tmp_path / "a.jsonl").write_text('{"q": "one?", "meta": {"a": "1"}, "lang": "en"}\n')
    found = source(tmp_path, "q", "meta.a")
    assert [[m.data for m in found.read(i).members] for i in range(2)] == [[b"one?", b"1"], [b"two?", b"2"]]
    assert found.read(0).attributes == {"lang": "en"} and [*found.fingerprints] == ["a", "b"]


def test_no_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"\n \n\r\n")
    assert len(source(tmp_path)) == 0


BAD = [b"{", b"[1]", b'"text"', b"null", b"\xff\xfe", b'{"text": 5}', b'{"text": null}', b"{}", b"[" * 100_000, b'{"text": "\\ud800"}',
       b'{"text": ' + b"9" * 10_000 + b"}", b"\0" * 50, b'{"text": "x"} {"text": "y"}', b'{"text": {"text": "x"}}']


def test_hostile_lines_are_refused_one_by_one(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"text": "good"}\n' + bad + b"\n" for bad in BAD))
    records, damaged = read_all(source(path))
    assert len(records) == len(damaged) == len(BAD)
    assert {r.members[0].data for r in records.values()} == {b"good"}
    assert all(0 < len(error.reason) < 300 for error in damaged.values())


def test_a_giant_line_costs_no_memory(tmp_path):
    path = tmp_path / "a.jsonl"
    with open(path, "wb") as file:
        file.write(b'{"text": "before"}\n{"text": "')
        file.seek(2**28, 1)  # a hole: it takes no disk either
        file.write(b'"}\n{"text": "after"}\n')
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = source(path)
    with pytest.raises(DamagedSample, match=f"more than the {MAX_JSON_BYTES} that are read"):
        found.read(1)
    assert (found.read(0).members[0].data, found.read(2).members[0].data) == (b"before", b"after")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def test_a_changed_file_is_noticed(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps({"text": f"text {i}"}) + "\n" for i in range(1000)))
    found = source(path)
    good, saved, random = path.read_bytes(), found.fingerprints, np.random.default_rng(0)
    for offset in random.integers(len(good), size=30):
        bad = bytearray(good)
        bad[offset] ^= 1
        path.write_bytes(bytes(bad))
        records, damaged = read_all(found)
        assert len(damaged) <= 1 and all(r.members[0].data == f"text {i}".encode() for i, r in records.items())
        with pytest.raises(ValueError, match="shard 'a' of source 's' was changed"):
            source(path).check_unchanged(saved)
    path.write_bytes(good[: len(good) // 2])
    records, damaged = read_all(found)
    assert 490 < len(records) < 510 and len(damaged) == 1000 - len(records)
    path.write_bytes(good)
    source(path).check_unchanged(saved)


def test_the_second_open_reads_no_line(tmp_path, monkeypatch):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "x"}\n' * 2000)
    first = source(path)
    monkeypatch.setattr(source_jsonl, "_add_lines", None)
    assert source(path).fingerprints == first.fingerprints and texts(source(path)) == ["x"] * 2000
