"""Texts of JSON lines: one JSON object a line, one sample a line; blank lines are none.

    {"text": "…", "language": "en"}      ->     Record(id="corpus/part-0/00000017", members=(text,), attributes={"language": "en"})

The file is read once for where its lines begin, how long they are and their checksums; from then on any line is found in O(1). A line
that is too long, no JSON or without the wanted key is refused when it is drawn; a long one costs no memory.
Ours: all of it.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence

from ernie5.data_pipelines.data_files import DataFile
from ernie5.data_pipelines.fields import read_json, scalars, text_keys, text_member
from ernie5.data_pipelines.index_cache import IndexSpec
from ernie5.data_pipelines.index_file import Entry, IndexHeader, IndexWriter
from ernie5.data_pipelines.indexed_files import IndexChanged, IndexedFiles
from ernie5.data_pipelines.open_file import OpenFile
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.source import MAX_JSON_BYTES, DamagedSample, Record
from ernie5.data_pipelines.source_indexed import IndexedSource

_CHUNK = 2**20
_BOM = b"\xef\xbb\xbf"
_LINE = "the line"


class JsonlSource(IndexedSource):
    """The lines of some files, in the order of file names, then of the file. `fields`: keys of the texts of a line, in order."""

    def __init__(self, name: str, files: Sequence[DataFile], quarantine: Quarantine | None = None, fields: Sequence[str] = ()) -> None:
        self.keys = text_keys(name, fields)
        super().__init__(name, IndexedFiles(name, files, lines_index, quarantine))

    def read(self, index: int) -> Record:
        """Line number `index` of those that are not blank. Raises DamagedSample."""
        number, row = self._files.find(index)
        file, key = self._files.stems[number], f"{row:08d}"
        try:
            _, entries = self._files.sample(number, row)
            line = self._files.read(number, entries, {}, MAX_JSON_BYTES)[_LINE]
            found = read_json(line, f"{_LINE} at byte {entries[0].offset}")
            if not isinstance(found, dict):
                raise ValueError(f"{_LINE} at byte {entries[0].offset} is no JSON object but a {type(found).__name__}")
            members = tuple(text_member(found, k) for k in self.keys)
        except (IndexChanged, ConnectionError):
            raise
        except (ValueError, OSError) as error:
            raise DamagedSample(self.name, file, key, str(error)) from error
        return Record(f"{self.name}/{file}/{key}", members, scalars(found, self.keys))


def lines_index(file: DataFile) -> IndexSpec:
    """How the index of a file of lines is made."""
    return IndexSpec("jsonl", file, file, lambda writer: _add_lines(file, writer))


def _add_lines(file: DataFile, writer: IndexWriter) -> IndexHeader:
    data = OpenFile(file.local())
    size = data.size()
    for offset, length, crc32 in _lines(data, writer.done):
        writer.add("", [Entry(_LINE, offset, length, crc32)])
    fingerprint = hashlib.sha256(f"{size} {writer.fingerprint}".encode()).hexdigest()
    return IndexHeader(kind="", file="", stamp="", settled=False, size=size, fingerprint=fingerprint)


def _lines(data: OpenFile, done: Callable[[int], None]) -> Iterator[tuple[int, int, int]]:
    """(offset, length, crc32) of every line that is not blank, without its end; of a long one never more than a chunk is held."""
    at = len(_BOM) if data.read(0, len(_BOM)) == _BOM else 0
    start, crc32, blank = at, 0, True
    while chunk := data.read(at, _CHUNK):
        begin = 0
        while (end := chunk.find(b"\n", begin)) >= 0:
            part = chunk[begin:end]
            if not (blank and not part.strip()):
                yield start, at + end - start, zlib.crc32(part, crc32)
            begin = end + 1
            start, crc32, blank = at + begin, 0, True
        rest = chunk[begin:]
        crc32, blank = zlib.crc32(rest, crc32), blank and not rest.strip()
        at += len(chunk)
        done(len(chunk))
    if not blank:
        yield start, at - start, crc32
