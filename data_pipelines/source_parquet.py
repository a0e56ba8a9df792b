"""Texts of Parquet files: one row, one sample; the columns named in `fields` are its texts, other columns are not read.

    part-0.parquet  row 17     ->     Record(id="corpus/part-0/00000017", members=(text,), attributes={})

Row groups are decoded whole, those used last are kept (bounded), so a file whose row groups are large is slow in a random order: write
groups of some thousand rows, or turn it into shards. The bytes of a column are checked against what they were when first opened, and
only checked bytes reach the decoder. Needs `pyarrow` (the extra `parquet`).
Ours: all of it.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from ernie5.data_pipelines.data_files import DataFile
from ernie5.data_pipelines.fields import text_keys
from ernie5.data_pipelines.index_cache import IndexSpec
from ernie5.data_pipelines.index_file import Entry, IndexHeader, IndexWriter
from ernie5.data_pipelines.indexed_files import IndexChanged, IndexedFiles
from ernie5.data_pipelines.media_limits import reason_of
from ernie5.data_pipelines.open_file import OpenFile
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.recent import Recent
from ernie5.data_pipelines.scan_tar import crc32_of
from ernie5.data_pipelines.source import MAX_JSON_BYTES, DamagedSample, Record
from ernie5.data_pipelines.source_indexed import IndexedSource
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality

ROOM_BYTES = 2**28          # of decoded row groups
MAX_GROUP_BYTES = 2**30     # of the wanted columns of one row group
MAX_FOOTER_BYTES = 2**26
_END_BYTES = 2**16          # pyarrow reads this much of the end to find the footer
_END = "(end)"


class ParquetSource(IndexedSource):
    """The rows of some files, in the order of file names, then of the file. `fields`: columns of the texts of a row, in order."""

    def __init__(self, name: str, files: Sequence[DataFile], quarantine: Quarantine | None = None, fields: Sequence[str] = ()) -> None:
        self.columns = text_keys(name, fields)
        _pyarrow()
        super().__init__(name, IndexedFiles(name, files, groups_index, quarantine))
        self._groups: Recent[Any] = Recent(ROOM_BYTES)
        headers = [index.header for index in self._files.indexes]
        self._ends = [list(accumulate(header.rows)) for header in headers]
        for file, header in zip(self._files.files, headers, strict=True):
            lost = set(self.columns) - set(header.names)
            if lost and len(header.rows) > 1:
                there = ", ".join(n for n in header.names if n != _END)[:300]
                raise ValueError(f"data.sources.{name}: {file.shown} has no column {min(lost)!r}; "
                                 f"name the text's column in fields: {there}")

    def read(self, index: int) -> Record:
        """Row number `index`. Raises DamagedSample."""
        number, row = self._files.find(index)
        file, key = self._files.stems[number], f"{row:08d}"
        ends = self._ends[number]
        group = bisect_right(ends, row)
        try:
            table = self._groups.get((number, group), lambda: self._decode(number, group))
            members = tuple(_text(table, column, row - (ends[group - 1] if group else 0)) for column in self.columns)
        except (IndexChanged, ConnectionError):
            raise
        except (ValueError, OSError, KeyError) as error:
            raise DamagedSample(self.name, file, key, str(error)[:300]) from error
        return Record(f"{self.name}/{file}/{key}", members, {})

    def _decode(self, number: int, group: int) -> tuple[Any, int]:
        """The wanted columns of a row group, and their bytes."""
        pa, pq = _pyarrow()
        _, end = self._files.sample(number, len(self._ends[number]) - 1)
        _, chunks = self._files.sample(number, group)
        wanted = [c for c in chunks if c.name in self.columns]
        data = self._files.read(number, wanted, {}, MAX_GROUP_BYTES) | self._files.read(number, end, {}, MAX_FOOTER_BYTES + _END_BYTES)
        checked = _CheckedBytes([(e.offset, data[e.name]) for e in (*end, *wanted)], end[0].offset + end[0].length)
        try:
            # a dictionary stays one: a short file cannot say one long text a million times
            file = pq.ParquetFile(pa.PythonFile(checked, mode="r"), read_dictionary=list(self.columns), pre_buffer=False)
            found = file.metadata.row_group(group)
            size = sum(found.column(i).total_uncompressed_size for i in range(found.num_columns)
                       if found.column(i).path_in_schema in self.columns)
            if size > MAX_GROUP_BYTES:
                raise ValueError(f"row group {group} has {size} bytes, more than {MAX_GROUP_BYTES}; write the file with smaller row groups")
            table = file.read_row_group(group, columns=list(self.columns), use_threads=False)
        except (pa.ArrowException, OSError) as error:
            raise ValueError(f"row group {group} cannot be decoded: {reason_of(error)}") from None
        return table, max(table.nbytes, 1)


def groups_index(file: DataFile) -> IndexSpec:
    """How the index of a Parquet file is made."""
    return IndexSpec("parquet", file, file, lambda writer: _add_groups(file, writer))


def _add_groups(file: DataFile, writer: IndexWriter) -> IndexHeader:
    """One entry per column of a row group, and one for the end of the file. ValueError when it is no Parquet file."""
    pa, pq = _pyarrow()
    data = OpenFile(file.local())
    size = data.size()
    end = data.read(size - 8, 8) if size >= 12 else b""
    footer = int.from_bytes(end[:4], "little") + 8
    if end[4:] != b"PAR1" or footer > min(size - 4, MAX_FOOTER_BYTES):
        raise ValueError(f"data.sources: {file.shown} is no Parquet file, or cut: it does not end as one; restore it")
    try:
        metadata = pq.ParquetFile(file.local(), pre_buffer=False).metadata
        for g in range(metadata.num_row_groups):
            group = metadata.row_group(g)
            chunks = [_chunk(data, group.column(i), size) for i in range(group.num_columns)]
            writer.add("", chunks)
            writer.done(sum(c.length for c in chunks))
        rows = tuple(metadata.row_group(g).num_rows for g in range(metadata.num_row_groups))
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ValueError(f"data.sources: {file.shown} cannot be read as Parquet: {reason_of(error)}; restore it") from None
    if any(r < 0 for r in rows):
        raise ValueError(f"data.sources: {file.shown} says that it has {min(rows)} rows; restore it")
    tail = min(size, max(footer, _END_BYTES))
    writer.add("", [Entry(_END, size - tail, tail, crc32_of(data, size - tail, tail))])
    fingerprint = hashlib.sha256(f"{size} {writer.fingerprint}".encode()).hexdigest()
    return IndexHeader(kind="", file="", stamp="", settled=False, size=size, fingerprint=fingerprint, rows=(*rows, 0))


def _chunk(data: OpenFile, column: Any, size: int) -> Entry:
    begin = min(p for p in (column.dictionary_page_offset, column.data_page_offset) if p)
    length = column.total_compressed_size
    if begin < 0 or length < 0 or begin + length > size:
        raise ValueError(f"column {column.path_in_schema} lies outside the file")
    return Entry(column.path_in_schema, begin, length, crc32_of(data, begin, length))


def _text(table: Any, column: str, row: int) -> Member:
    value = table.column(column)[row]
    value = getattr(value, "value", value) if hasattr(value, "index") else value  # of a dictionary
    if value is None or not value.is_valid:
        raise ValueError(f"its {column} is missing")
    if not hasattr(value, "as_buffer"):
        raise ValueError(f"its {column} is a {value.type}, not a text")
    found = value.as_buffer()
    if len(found) > MAX_JSON_BYTES:
        raise ValueError(f"its {column} has {len(found)} bytes, more than the {MAX_JSON_BYTES} that are read")
    return Member(Modality.TEXT, "txt", found.to_pybytes())


class _CheckedBytes:
    """A file for pyarrow that holds the checked parts of a real one and nothing else."""

    def __init__(self, parts: list[tuple[int, bytes]], size: int) -> None:
        self.parts, self.length, self.at, self.closed = parts, size, 0, False

    def read(self, length: int) -> bytes:
        length = min(length, self.length - self.at)
        for offset, data in self.parts:
            if offset <= self.at and self.at + length <= offset + len(data):
                self.at += length
                return data[self.at - length - offset : self.at - offset]
        raise ValueError(f"bytes {self.at} to {self.at + length} belong to no column that was asked for")

    def seek(self, offset: int, whence: int = 0) -> int:
        self.at = offset + (0, self.at, self.length)[whence]
        return self.at

    def tell(self) -> int:
        return self.at

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise ValueError("Parquet files need pyarrow: pip install 'ernie5[parquet]', or turn them into .jsonl or shards") from None
    return pyarrow, pyarrow.parquet
