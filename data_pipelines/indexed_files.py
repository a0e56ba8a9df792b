"""The part that sources share: files with an index each, samples by number in O(1), bytes that are checked whenever they are read.

Memory holds a few numbers per file and the index blocks and open files used last (bounded). One read serves a sample whose members are
adjacent; a file that is replaced is opened anew, one that shrinks or changes shows in the checksums.
Ours: all of it.
"""

from __future__ import annotations

import hashlib
import zlib
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from itertools import accumulate

from ernie5.data_pipelines.data_files import DataFile, refuse_twins, stem
from ernie5.data_pipelines.index_cache import IndexSpec, kept_index, open_index
from ernie5.data_pipelines.index_file import BLOCK_ROWS, Entry, IndexFile, sample_of
from ernie5.data_pipelines.open_file import OpenFile
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.recent import Recent
from ernie5.run.progress import Silent, progress

OPEN_FILES = 128
BLOCK_BYTES = 2**27
_SHOW_ABOVE_BYTES = 2**29   # a progress bar appears when more than this must be indexed
_JSON_COST = 16             # a byte of JSON takes as long as this many bytes of a checksum
_ONE_READ_BYTES = 2**18     # adjacent members of up to this much together are read in one go; larger ones are not worth the copy
_GAP_BYTES = 4096           # per member: headers and padding between members that count as adjacent


class IndexChanged(ValueError):
    """The data was written anew while it was in use."""


class IndexedFiles:
    """Numbered samples in files. `how(file)` says how the index of a file is made; it must be a function of a module."""

    def __init__(self, source: str, files: Sequence[DataFile], how: Callable[[DataFile], IndexSpec], quarantine: Quarantine | None) -> None:
        """Opens or makes all indexes. What is wrong with a whole file is in `problems`, and warned of in `quarantine`. ValueError of `how`.
        """
        refuse_twins(source, files)
        self.source, self.files, self.how = source, list(files), how
        self.stems = [stem(f.name) for f in self.files]
        self.indexes = self._open_indexes()
        self.ends = list(accumulate(sum(i.header.rows) if i.header.rows else i.header.num_samples for i in self.indexes))
        self.problems: list[tuple[str, str]] = []
        self.fingerprints: dict[str, str] = {}
        self._open: Recent[OpenFile] = Recent(OPEN_FILES)
        self._blocks: Recent[bytes] = Recent(BLOCK_BYTES)
        for name, file, index in zip(self.stems, self.files, self.indexes, strict=True):
            self.fingerprints[name] = index.header.fingerprint
            if (size := file.size()) != index.header.size:
                self.problems.append((f"{source}/{name}", f"the shard has {size} bytes, its index says {index.header.size}"))
                self.fingerprints[name] += f" {size} bytes"
            self.problems += [(f"{source}/{name}/{key}", reason) for key, reason in index.header.problems]
        for sample_id, reason in self.problems if quarantine else ():
            quarantine.warn(sample_id, reason)

    def __len__(self) -> int:
        return self.ends[-1]

    @property
    def fingerprint(self) -> str:
        """One hash over all files."""
        return hashlib.sha256("\n".join(" ".join(pair) for pair in self.fingerprints.items()).encode()).hexdigest()

    def check_unchanged(self, fingerprints: Mapping[str, str]) -> None:
        """See Source."""
        old = {name: i.header.old_fingerprint for name, i in zip(self.stems, self.indexes, strict=True)}
        for shard in sorted({*fingerprints, *self.fingerprints}):
            then, now = fingerprints.get(shard), self.fingerprints.get(shard)
            if then != now and not (then and then == old.get(shard)):
                what = "is missing" if now is None else "is new" if then is None else "was changed"
                raise ValueError(f"data.sources: shard {shard!r} of source {self.source!r} {what} since this run began, so its "
                                 "samples would not be the same; restore the data, or begin a new run from the checkpoint's weights")

    def find(self, index: int) -> tuple[int, int]:
        """(number of the file, row in it) of a sample. IndexError outside 0 <= index < len."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.source} has {len(self)} samples, there is no number {index}")
        number = bisect_right(self.ends, index)
        return number, index - (self.ends[number - 1] if number else 0)

    def sample(self, number: int, row: int) -> tuple[str, list[Entry]]:
        """(key, entries) of a row of an index. IndexChanged when the data was written anew."""
        block = self._blocks.get((number, row // BLOCK_ROWS), lambda: self._block(number, row // BLOCK_ROWS))
        return sample_of(block, row % BLOCK_ROWS, self.indexes[number].header.names)

    def read(self, number: int, entries: Sequence[Entry], caps: Mapping[str, int], cap: int) -> dict[str, bytes]:
        """The checked bytes of entries by name; a name in `caps` has that cap, others `cap`. ValueError or OSError where they are not.
        """
        for name, _, length, _ in entries:
            if length > caps.get(name, cap):
                raise ValueError(f"{name} has {length} bytes, more than the {caps.get(name, cap)} that are read")
        try:
            return self._read(number, entries)
        except ConnectionError:
            raise
        except (ValueError, OSError):
            if not self.files[number].renew():
                raise
            self._open.drop(number)
            return self._read(number, entries)

    def file(self, number: int) -> tuple[OpenFile, int]:
        """The open file and its bytes, as they are now."""
        file = self._open.get(number, lambda: self._open_file(number))
        size = file.size()
        if size < 0:
            self._open.drop(number)
            file = self._open.get(number, lambda: self._open_file(number))
            size = file.size()
        return file, size

    def _read(self, number: int, entries: Sequence[Entry]) -> dict[str, bytes]:
        file, size = self.file(number)
        total, first, last = 0, 2**63, 0
        for name, offset, length, _ in entries:
            if offset + length > size:
                raise ValueError(f"{name} ends at byte {offset + length}, the shard at {size}: it was cut or changed")
            total, first, last = total + length, min(first, offset), max(last, offset + length)
        if total > size:
            raise ValueError(f"its members have {total} bytes, the shard {size}: they overlap")
        adjacent = 1 < len(entries) and last - first <= min(total + _GAP_BYTES * len(entries), _ONE_READ_BYTES)
        one = file.read(first, last - first) if adjacent else None
        data = {}
        for name, offset, length, crc32 in entries:
            part = one[offset - first : offset - first + length] if one is not None else file.read(offset, length)
            if len(part) != length or zlib.crc32(part) != crc32:
                raise ValueError(f"the bytes of {name} are not those that were written (checksum): the shard was changed")
            data[name] = part
        return data

    def _open_file(self, number: int) -> tuple[OpenFile, int]:
        try:
            return OpenFile(self.files[number].local()), 1
        except FileNotFoundError:  # a copy of a remote file may go between two looks at it
            return OpenFile(self.files[number].local()), 1

    def _block(self, number: int, block: int) -> tuple[bytes, int]:
        self._check_in_use(number)
        try:
            data = self.indexes[number].block(block)
        except (ValueError, OSError):  # the kept index was damaged or removed: make it again
            index = open_index(self.how(self.files[number]), again=True)
            if index.header.fingerprint != self.indexes[number].header.fingerprint:
                raise self._changed(number) from None
            self.indexes[number] = index
            data = index.block(block)
        return data, len(data)

    def _check_in_use(self, number: int) -> None:
        """The file that the index was made from must still be the one that it was; where there is only the data, checksums tell."""
        spec, header = self.how(self.files[number]), self.indexes[number].header
        if spec.kind != header.kind:
            raise self._changed(number)
        if spec.content is not None and spec.made_from.stamp().text != header.stamp and spec.content() != header.fingerprint:
            raise self._changed(number)

    def _changed(self, number: int) -> IndexChanged:
        return IndexChanged(f"the index of {self.files[number].shown} changed while it was in use; start again on finished shards")

    def _open_indexes(self) -> list[IndexFile]:
        specs = [self.how(file) for file in self.files]
        found = [kept_index(spec) for spec in specs]
        todo = [spec for spec, index in zip(specs, found, strict=True) if index is None]
        work = sum(spec.made_from.size() for spec in todo)
        slow = sum(spec.made_from.size() * (_JSON_COST if spec.kind == "json" else 1) for spec in todo) > _SHOW_ABOVE_BYTES
        with progress(f"indexing {self.source} (bytes)", work) if slow else nullcontext(Silent()) as bar:
            indexes = [index or open_index(spec, done=bar.advance) for spec, index in zip(specs, found, strict=True)]
        return indexes
