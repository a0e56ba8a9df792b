"""Parquet: rows of text columns, checked bytes only, bounded memory."""

import pickle

import numpy as np
import pytest
from test_sources import read_all

from ernie5.data_pipelines import data_files, source_parquet
from ernie5.data_pipelines.sources import DamagedSample, SourceConfig, open_source

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")


@pytest.fixture(autouse=True)
def no_waiting_for_clocks(monkeypatch):
    monkeypatch.setattr(data_files, "SETTLED_S", -1.0)


def write(path, rows=100, group=16, **more):
    table = pa.table({"text": [f"text é {i}" for i in range(rows)], "n": list(range(rows)), "q": [f"q{i % 3}" for i in range(rows)]} | more)
    pq.write_table(table, path, row_group_size=group)
    return path


def source(path, *fields):
    return open_source("s", SourceConfig(str(path), fields=fields))


@pytest.mark.parametrize("room", [1, 2**28])
def test_rows_in_any_order(tmp_path, monkeypatch, room):
    monkeypatch.setattr(source_parquet, "ROOM_BYTES", room)
    write(tmp_path / "b.parquet", 30)
    write(tmp_path / "a.parquet")
    found = source(tmp_path)
    assert len(found) == 130
    for i in np.random.default_rng(0).permutation(130):
        record = found.read(int(i))
        assert record.members[0].data.decode() == f"text é {i % 100}" and len(record.members) == 1
        assert record.id == f"s/{'ab'[int(i >= 100)]}/{i % 100:08d}"
    assert len(found._groups) == (1 if room == 1 else 9)
    assert pickle.loads(pickle.dumps(found)).read(129) == found.read(129)
    assert [m.data for m in source(tmp_path, "q", "text").read(4).members] == [b"q1", "text é 4".encode()]


@pytest.mark.parametrize("kind", ["string", "large_string", "binary", "dictionary"])
def test_kinds_of_text_columns(tmp_path, kind):
    column = pa.array(["a", None, "c"])
    column = column.dictionary_encode() if kind == "dictionary" else column.cast(getattr(pa, kind)())
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    records, damaged = read_all(source(tmp_path))
    assert [r.members[0].data for r in records.values()] == [b"a", b"c"] and "its text is missing" in damaged[1].reason


def test_what_is_no_text(tmp_path):
    found = source(write(tmp_path / "a.parquet"), "n")
    with pytest.raises(DamagedSample, match="its n is a int64, not a text"):
        found.read(0)
    with pytest.raises(ValueError, match="has no column 'body'; .*: text, n, q"):
        source(tmp_path, "body")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "a.parquet")
    assert len(source(tmp_path)) == 0


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(20) + b"\xff\xff\xff\x7fPAR1", b"x" * 500,
                                     b"PAR1" + bytes(100) + b"\x10\0\0\0PAR1"])
def test_what_is_no_parquet_file(tmp_path, content):
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="data.sources: .*a.parquet .*restore it"):
        source(tmp_path)


def test_damage_gives_no_wrong_text(tmp_path):
    path = write(tmp_path / "a.parquet", 200, 50)
    good, random = path.read_bytes(), np.random.default_rng(0)
    used = source(path)
    saved, noticed = used.fingerprints, 0
    for offset in random.integers(len(good), size=40):
        bad = bytearray(good)
        bad[offset] ^= 1 << int(random.integers(8))
        path.write_bytes(bytes(bad))
        records, damaged = read_all(used)
        noticed += bool(damaged)
        assert all(r.members[0].data.decode() == f"text é {i}" for i, r in records.items())
        with pytest.raises(ValueError, match="was changed|restore it"):
            source(path).check_unchanged(saved)
        used._groups = type(used._groups)(1)
    assert noticed > 5
    path.write_bytes(good[:-100])
    used._groups = type(used._groups)(1)
    assert len(read_all(used)[0]) == 0
    with pytest.raises(ValueError, match="restore it"):
        source(path)


def test_a_bomb_of_repeated_text_stays_small(tmp_path):
    """One megabyte, said fifty thousand times, in a file of some kilobytes."""
    text = pa.array(["x" * 2**20]).dictionary_encode()
    column = pa.DictionaryArray.from_arrays(pa.array(np.zeros(50_000, np.int32)), text.dictionary)
    pq.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
    assert (tmp_path / "a.parquet").stat().st_size < 2**21
    before = pa.total_allocated_bytes()
    found = source(tmp_path)
    assert len(found.read(49_999).members[0].data) == 2**20
    assert pa.total_allocated_bytes() - before < 2**24


def test_caps(tmp_path, monkeypatch):
    path = write(tmp_path / "a.parquet", text=[f"{'long' * 50}{i}" for i in range(100)])
    monkeypatch.setattr(source_parquet, "MAX_JSON_BYTES", 100)
    with pytest.raises(DamagedSample, match="its text has 201 bytes, more than the 100"):
        source(path).read(0)
    monkeypatch.setattr(source_parquet, "MAX_GROUP_BYTES", 1000)
    with pytest.raises(DamagedSample, match="more than|smaller row groups"):
        source(path).read(0)


def test_without_the_package(tmp_path, monkeypatch):
    import sys

    write(tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ValueError, match=r"pip install 'ernie5\[parquet\]'"):
        source(tmp_path)
