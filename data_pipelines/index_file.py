"""Where the bytes of every sample are, as a file that opens at once: only its end is read, the rest block by block when it is needed.

    magic | block | block | … | table | header (JSON) | trailer
    block    numbers of samples, members and key bytes;  per sample: ends of its members and of its key;
             per member: offset, length, crc32, number of its name;  the keys      (BLOCK_ROWS samples, its crc32 in the table)
    table    per block: offset, length, crc32              trailer    lengths of table and header, their crc32, magic

Any sample is found in O(1). Every part is checked before it is believed; no part can ask for more memory than the file is long.
Ours: the format. It is a cache: what it was made from (see index_cache.py) stays the truth.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ernie5.data_pipelines.open_file import OpenFile

MAGIC = b"E5INDEX1"
BLOCK_ROWS = 512
MAX_HEADER_BYTES = 2**26
_TRAILER = struct.Struct("<QQI8s")
_BLOCK = struct.Struct("<QII")     # offset, length, crc32
_COUNTS = struct.Struct("<III")    # samples, members, key bytes
_SAMPLE = struct.Struct("<II")     # where its members and its key end, counted in the block
_SPAN = struct.Struct("<IIII")     # two of them: where they begin and end
_MEMBER = struct.Struct("<QQII")   # offset, length, crc32, name


class Entry(NamedTuple):
    """One member: what follows the key in its name (`0.txt`), where its bytes are, and their CRC-32 (None in old fingerprints only)."""

    name: str
    offset: int
    length: int
    crc32: int | None


@dataclass(frozen=True)
class IndexHeader:
    """What an index says of its file. `stamp`: of what it was made from, `settled` when that stamp cannot hide a change (index_cache.py).

    `fingerprint` changes with any sample, `old_fingerprint` is what earlier versions called it. `problems`: (key, reason) of what was left
    out. `rows`: what each sample counts for, where that is not one (row groups). `codes`: of tokenized shards, JSON that says what made
    them. `names`: of members, by number.
    """

    kind: str
    file: str
    stamp: str
    settled: bool
    size: int
    fingerprint: str
    num_samples: int = 0
    old_fingerprint: str = ""
    problems: tuple[tuple[str, str], ...] = ()
    rows: tuple[int, ...] = ()
    codes: str = ""
    names: tuple[str, ...] = ()


class IndexWriter:
    """Collects samples and writes them block by block to `out`; hashes what it is given, whatever the blocks.

    Who adds them tells `done` how many bytes of the file have been worked through.
    """

    def __init__(self, out: BinaryIO, done: Callable[[int], None] = lambda num_bytes: None) -> None:
        self.out, self.done = out, done
        self.num_samples = 0
        self._hash = hashlib.sha256()
        self._names: dict[str, int] = {}
        self._table: list[bytes] = []
        self._at = out.write(MAGIC)
        self._clear()

    def add(self, key: str, entries: Sequence[Entry]) -> None:
        """Append one sample. An empty key stands for its number."""
        for name, offset, length, crc32 in entries:
            number = self._names.setdefault(name, len(self._names))
            self._members.append(_MEMBER.pack(offset, length, crc32, number))
            self._hash.update(f"{name}:{offset}:{length}:{crc32} ".encode("utf-8", "surrogatepass"))
        raw = key.encode("utf-8", "surrogatepass")
        self._hash.update(b"%d:%b\n" % (len(raw), raw))
        self._keys += raw
        self._samples.append(_SAMPLE.pack(len(self._members), len(self._keys)))
        self.num_samples += 1
        if len(self._samples) == BLOCK_ROWS:
            self._end_block()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over all samples so far."""
        return self._hash.hexdigest()

    def finish(self, header: IndexHeader) -> None:
        """Write the end; the header's numbers of samples and names are filled in here."""
        if self._samples:
            self._end_block()
        write_end(self.out, b"".join(self._table), replace(header, num_samples=self.num_samples, names=tuple(self._names)))

    def _clear(self) -> None:
        self._members: list[bytes] = []
        self._samples: list[bytes] = []
        self._keys = bytearray()

    def _end_block(self) -> None:
        counts = _COUNTS.pack(len(self._samples), len(self._members), len(self._keys))
        block = b"".join([counts, _SAMPLE.pack(0, 0), *self._samples, *self._members, self._keys])
        self._table.append(_BLOCK.pack(self._at, len(block), zlib.crc32(block)))
        self._at += self.out.write(block)
        self._clear()


def write_end(out: BinaryIO, table: bytes, header: IndexHeader) -> None:
    """Table, header and trailer. ValueError when the header would be too long to be read."""
    text = json.dumps(asdict(header), ensure_ascii=True).encode()
    if len(text) > MAX_HEADER_BYTES:
        raise ValueError(f"data.sources: the members of {header.file} have {len(header.names)} different endings, too many for an index; "
                         "a sample's key ends at the first dot of a name")
    out.write(table + text + _TRAILER.pack(len(table), len(text), zlib.crc32(table + text), MAGIC))


@dataclass
class IndexFile:
    """An index at `path`, or in memory where nothing can be written. ValueError when a part of it is damaged."""

    path: Path | None
    header: IndexHeader
    table: bytes = field(repr=False)
    memory: bytes = field(default=b"", repr=False)

    @classmethod
    def open(cls, path: Path) -> "IndexFile":
        """Reads the end of the file only. FileNotFoundError when there is none, ValueError when it is damaged."""
        file = OpenFile(path)
        return cls(path, *_read_end(file.read, os.fstat(file.fd).st_size))

    @classmethod
    def of_bytes(cls, data: bytes) -> "IndexFile":
        return cls(None, *_read_end(lambda offset, length: data[offset : offset + length], len(data)), data)

    def block(self, number: int) -> bytes:
        """One checked block."""
        offset, length, crc32 = _BLOCK.unpack_from(self.table, number * _BLOCK.size)
        data = self.memory[offset : offset + length] if self.path is None else OpenFile(self.path).read(offset, length)
        if len(data) != length or zlib.crc32(data) != crc32:
            raise ValueError(f"block {number} of the index {self.path} is damaged (checksum)")
        return data


def sample_of(block: bytes, row: int, names: Sequence[str]) -> tuple[str, list[Entry]]:
    """(key, entries) of sample number `row` of a block."""
    num_samples, num_members, _ = _COUNTS.unpack_from(block)
    first, key_from, last, key_to = _SPAN.unpack_from(block, _COUNTS.size + row * _SAMPLE.size)
    members = _COUNTS.size + (num_samples + 1) * _SAMPLE.size
    rows = _MEMBER.iter_unpack(block[members + first * _MEMBER.size : members + last * _MEMBER.size])
    entries = [Entry(names[name], offset, length, crc32) for offset, length, crc32, name in rows]
    keys = members + num_members * _MEMBER.size
    return block[keys + key_from : keys + key_to].decode("utf-8", "surrogatepass"), entries


def _read_end(read, size: int) -> tuple[IndexHeader, bytes]:
    try:
        trailer = read(size - _TRAILER.size, _TRAILER.size) if size > _TRAILER.size else b""
        table_length, header_length, crc32, magic = _TRAILER.unpack(trailer)
        length = table_length + header_length
        if magic != MAGIC or length > size - _TRAILER.size or header_length > MAX_HEADER_BYTES:
            raise ValueError("it does not end as an index does")
        end = read(size - _TRAILER.size - length, length)
        if zlib.crc32(end) != crc32:
            raise ValueError("checksum of its end")
        found = json.loads(end[table_length:])
        header = IndexHeader(**{f.name: _tuples(found[f.name]) for f in fields(IndexHeader) if f.name in found or f.name != "codes"})
        if table_length != -(-header.num_samples // BLOCK_ROWS) * _BLOCK.size:
            raise ValueError("number of blocks")
    except (ValueError, KeyError, TypeError, struct.error, RecursionError) as error:
        raise ValueError(f"the index is damaged: {error}") from None
    return header, end[:table_length]


def _tuples(value):
    return tuple(_tuples(v) for v in value) if isinstance(value, list) else value
