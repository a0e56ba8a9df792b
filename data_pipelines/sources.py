"""Shards in: one named source of data as a list of records, read one by one, each checked against its index.

    source = ShardSource("captions", "data/captions");  len(source);  source.read(17) -> Record(id="captions/train-000003/00017", …)

A record holds encoded files; `decode_media.decode_record` turns it into a sample. A record that cannot be trusted raises
`DamagedSample`: a source never gives part of a sample, nor another one's bytes. `fingerprints` change when a shard was rewritten,
so that a resumed run can refuse other data (`check_unchanged`).
Ours: all of it. Other people's webdataset tars are read as well: text first, then images, clips and sounds, by their endings.
"""

from __future__ import annotations

import hashlib
import json
import os
import zlib
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from itertools import accumulate
from pathlib import Path

from ernie5.data_pipelines.quarantine import BadSample, Quarantine
from ernie5.data_pipelines.shard_index import Entry, ShardIndex, load_index, scan_tar
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION, Member, index_path
from ernie5.sequence import Modality

MAX_MEMBER_BYTES = 2**28
MAX_HEADER_BYTES = 2**22
_RECENT_INDEXES = 32
_ORDER = tuple(Modality)


@dataclass(frozen=True)
class Record:
    """A stored sample before decoding. `id` = `source/shard/key`; `members` in the order of the document."""

    id: str
    members: tuple[Member, ...]
    attributes: dict[str, str | int | float | bool | None]


class DamagedSample(BadSample):
    """A stored sample whose bytes are missing or not those that were written."""

    def __init__(self, source: str, shard: str, key: str, reason: str):
        super().__init__(f"{source}/{shard}/{key}", reason)
        self.source, self.shard, self.key = source, shard, key

    def __reduce__(self):
        return type(self), (self.source, self.shard, self.key, self.reason)


class ShardSource:
    """The samples of some shards, in the order of shard names, then of the shard.

    Nothing is kept open and little is kept in memory: a source may be copied to loader workers.
    """

    def __init__(self, name: str, paths: str | Path | Sequence[str | Path], quarantine: Quarantine | None = None,
                 max_member_bytes: int = MAX_MEMBER_BYTES):
        """`paths`: tar files, folders with tar files, or patterns like `data/train-*.tar`, one or several.

        What is wrong with a whole shard (a cut tail, unsafe names) is in `problems` and logged as warnings in `quarantine`.
        Raises ValueError when a path holds no shard, or a shard cannot be read as a tar.
        """
        self.name = name
        self.max_member_bytes = max_member_bytes
        self.shards = _find(name, [paths] if isinstance(paths, str | Path) else list(paths))
        self.problems: list[tuple[str, str]] = []
        self._scanned: dict[int, ShardIndex] = {}
        self._recent: OrderedDict[int, ShardIndex] = OrderedDict()
        self.fingerprints: dict[str, str] = {}
        counts = []
        for number, tar in enumerate(self.shards):
            if index_path(tar).exists():
                index = load_index(tar)
                if tar.stat().st_size != index.size:
                    self.problems.append((f"{name}/{tar.stem}", f"the shard has {tar.stat().st_size} bytes, its index says {index.size}"))
            else:
                index = self._scanned[number] = scan_tar(tar)
            self.problems += [(f"{name}/{tar.stem}/{key}", reason) for key, reason in index.problems]
            self.fingerprints[tar.stem] = index.fingerprint
            counts.append(len(index.samples))
        self._ends = list(accumulate(counts))
        for sample_id, reason in self.problems if quarantine else ():
            quarantine.warn(sample_id, reason)

    def __len__(self) -> int:
        """Number of samples; damaged ones count, because only reading tells."""
        return self._ends[-1]

    @property
    def fingerprint(self) -> str:
        """One hash over `fingerprints`, which has one per shard."""
        return hashlib.sha256("\n".join(" ".join(pair) for pair in self.fingerprints.items()).encode()).hexdigest()

    def check_unchanged(self, fingerprints: dict[str, str]) -> None:
        """Raises ValueError that names a shard when these fingerprints, from an earlier start of the run, are not those of now."""
        for shard in sorted({*fingerprints, *self.fingerprints}):
            then, now = fingerprints.get(shard), self.fingerprints.get(shard)
            if then != now:
                what = "is missing" if now is None else "is new" if then is None else "was changed"
                raise ValueError(f"data.sources: shard {shard!r} of source {self.name!r} {what} since this run began, so its "
                                 "samples would not be the same; restore the data, or begin a new run from the checkpoint's weights")

    def read(self, index: int) -> Record:
        """Sample number `index`, 0 <= index < len. Raises DamagedSample."""
        if not 0 <= index < len(self):
            raise IndexError(f"{self.name} has {len(self)} samples, there is no number {index}")
        number = bisect_right(self._ends, index)
        tar, shard = self.shards[number], self._index(number)
        key, entries = shard.samples[index - (self._ends[number - 1] if number else 0)]
        try:
            data = self._read_entries(tar, shard.size, entries)
            members, attributes = _layout(data)
        except (ValueError, OSError, RecursionError) as error:
            raise DamagedSample(self.name, tar.stem, key, str(error)) from error
        return Record(f"{self.name}/{tar.stem}/{key}", members, attributes)

    def _index(self, number: int) -> ShardIndex:
        if number in self._scanned:
            return self._scanned[number]
        if number not in self._recent:
            index = load_index(self.shards[number])
            if index.fingerprint != self.fingerprints[self.shards[number].stem]:
                raise ValueError(f"{index_path(self.shards[number])} changed while it was in use; start again on finished shards")
            self._recent[number] = index
            if len(self._recent) > _RECENT_INDEXES:
                self._recent.popitem(last=False)
        self._recent.move_to_end(number)
        return self._recent[number]

    def _read_entries(self, tar: Path, indexed_size: int, entries: tuple[Entry, ...]) -> dict[str, bytes]:
        data = {}
        with open(tar, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            for entry in entries:
                cap = MAX_HEADER_BYTES if entry.name == "json" else self.max_member_bytes
                if entry.length > cap:
                    raise ValueError(f"{entry.name} has {entry.length} bytes, more than the {cap} that are read")
                if entry.offset + entry.length > size:
                    raise ValueError(f"{entry.name} ends at byte {entry.offset + entry.length}, the shard at {size}: it was cut or changed")
                if entry.crc32 is None and size != indexed_size:
                    raise ValueError(f"the shard has {size} bytes, {indexed_size} when it was opened: it was changed")
                file.seek(entry.offset)
                data[entry.name] = file.read(entry.length)
                if len(data[entry.name]) != entry.length or (entry.crc32 is not None and zlib.crc32(data[entry.name]) != entry.crc32):
                    raise ValueError(f"the bytes of {entry.name} are not those that were written (checksum): the shard was changed")
        return data


def _layout(data: dict[str, bytes]) -> tuple[tuple[Member, ...], dict[str, str | int | float | bool | None]]:
    """Segments and attributes: as `json` says, where it has segments; by the endings of names otherwise."""
    header = {}
    if "json" in data:
        header = json.loads(data["json"])
    if isinstance(header, dict) and "segments" in header:
        if not isinstance(header["segments"], list):
            raise ValueError("its json has segments that are no list")
        members = tuple(_member(segment, data) for segment in header["segments"])
        attributes = header.get("attributes", {})
    else:
        found = [Member(MODALITY_OF_EXTENSION[e], e, d) for n, d in data.items() if (e := n.rpartition(".")[2]) in MODALITY_OF_EXTENSION]
        members = tuple(sorted(found, key=lambda m: _ORDER.index(m.modality)))
        attributes = header
    if not members:
        raise ValueError("it has no member of a known kind")
    attributes = attributes if isinstance(attributes, dict) else {}
    return members, {k: v for k, v in attributes.items() if isinstance(v, str | int | float | bool | None)}


def _member(segment: object, data: dict[str, bytes]) -> Member:
    if not isinstance(segment, dict) or not isinstance(segment.get("member"), str) or segment["member"] not in data:
        raise ValueError(f"its json names the segment {str(segment)[:80]!r}, which is not in the shard")
    return Member(Modality(segment.get("modality")), segment["member"].rpartition(".")[2], data[segment["member"]])


def _find(name: str, paths: Sequence[str | Path]) -> list[Path]:
    shards: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            found = sorted(path.glob("*.tar"))
            lost = sorted(p.name for p in path.glob("*.index.json") if not (path / p.name.replace(".index.json", ".tar")).exists())
            if lost:
                raise ValueError(f"data.sources: {path / lost[0]} has no tar beside it; restore the shard or delete its index")
        elif has_magic(str(path)):
            found = [p for p in map(Path, sorted(glob(str(path)))) if p.suffix == ".tar"]
        else:
            found = [path]
        if not found or not all(p.is_file() for p in found):
            raise ValueError(f"data.sources: source {name!r} has no shards at {path}; give a .tar file, a folder of them or a pattern")
        shards += found
    stems = [p.stem for p in shards]
    twice = {s for s in stems if stems.count(s) > 1} if len(set(stems)) < len(stems) else set()
    if twice or not shards:
        which = f"two shards named {min(twice)}.tar" if twice else "no shards"
        raise ValueError(f"data.sources: source {name!r} has {which}; sample ids need different names: rename one or make two sources")
    return shards
