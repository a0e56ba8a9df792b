"""The files of a source: local ones here, remote ones in remote_files.py. What a source needs of a file is `DataFile`.

    path of a source                        a file, a folder, a pattern (data/train-*.tar), a range (train-{0000..0099}.tar), a URL
    stamp                                   a short text that changes with every change of the file, found without reading it

A local stamp is size, time of the last write and time of the last change of the inode; nobody can set the last one. Clocks of file systems
tick slowly, so a stamp is `settled` only when the file had been left alone for SETTLED_S: before, a second change could look the same.
Ours: all of it.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

SETTLED_S = 2.0
INDEX_FOLDER = ".ernie5"
COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".lz4", ".zip", ".7z", ".tgz")
_RANGE = re.compile(r"\{(\d{1,9})\.\.(\d{1,9})\}")
_MAX_RANGE = 1_000_000


class Stamp(NamedTuple):
    """Two equal settled stamps: the same bytes."""

    text: str
    settled: bool


class DataFile(Protocol):
    """One file of a source. `name` is its file name, `shown` says where it is, for messages, without secrets."""

    @property
    def name(self) -> str: ...
    @property
    def shown(self) -> str: ...

    def stamp(self) -> Stamp:
        """Of now (local), or of when the source was opened (remote)."""

    def size(self) -> int:
        """Bytes."""

    def local(self) -> Path:
        """Where the file can be read; a remote one is fetched if need be. OSError when that cannot be."""

    def renew(self) -> bool:
        """Called when the bytes at `local()` are wrong: whether it is worth to try again, because they were a copy."""

    def companion(self, suffix: str) -> "DataFile | None":
        """The file beside it with another suffix (`x.tar` -> `x.index.json`), if there is one."""

    def index_places(self) -> list[Path]:
        """Where its binary index may lie, best place first."""


@dataclass(frozen=True)
class LocalFile:
    """A file on this machine."""

    path: Path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def shown(self) -> str:
        return str(self.path)

    def stamp(self) -> Stamp:
        found = os.stat(self.path)
        return Stamp(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}", time.time() - found.st_ctime > SETTLED_S)

    def size(self) -> int:
        return os.stat(self.path).st_size

    def local(self) -> Path:
        return self.path

    def renew(self) -> bool:
        return False

    def companion(self, suffix: str) -> "LocalFile | None":
        beside = self.path.with_suffix(suffix)
        return LocalFile(beside) if beside.is_file() else None

    def index_places(self) -> list[Path]:
        beside = self.path.parent / INDEX_FOLDER
        places = [] if beside.is_symlink() else [beside / f"{self.path.name}.index"]  # a link could lead anywhere
        return [*places, cache_home() / "index" / f"{short_hash(os.path.abspath(self.path))}.index"]


def stem(name: str) -> str:
    """A file name without its last suffix: `train-000000.tar` -> `train-000000`."""
    return Path(name).stem


def cache_home() -> Path:
    """`$XDG_CACHE_HOME/ernie5`, or `~/.cache/ernie5`: what can be made again."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(named) if os.path.isabs(named) else Path.home() / ".cache") / "ernie5"


def short_hash(text: str) -> str:
    """32 hex digits."""
    return sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


def expand_ranges(path: str) -> Iterator[str]:
    """`a-{00..02}.tar` -> `a-00.tar`, `a-01.tar`, `a-02.tar`, as shells do. ValueError for a range that runs backwards or too far."""
    found = _RANGE.search(path)
    if found is None:
        yield path
        return
    first, last = int(found[1]), int(found[2])
    if not 0 <= last - first < _MAX_RANGE:
        raise ValueError(f"data.sources: the range {found[0]} must run upwards over at most {_MAX_RANGE} numbers")
    for number in range(first, last + 1):
        yield from expand_ranges(f"{path[: found.start()]}{number:0{len(found[1])}d}{path[found.end() :]}")


def local_files(source: str, paths: Sequence[str | Path], suffixes: Sequence[str]) -> list[LocalFile]:
    """The files with one of these suffixes, in the order of paths, then of names. ValueError when a path has none."""
    found: list[LocalFile] = []
    for path in (p for given in paths for p in expand_ranges(str(given))):
        here = _below(Path(path), suffixes)
        if not here or not all(f.is_file() for f in here):
            raise ValueError(f"data.sources: source {source!r} has no shards at {path}; "
                             f"give a {' or '.join(suffixes)} file, a folder of them or a pattern{_packed(path)}")
        found += map(LocalFile, here)
    return found


def _below(path: Path, suffixes: Sequence[str]) -> list[Path]:
    if path.is_dir():
        found = sorted(p for p in path.iterdir() if p.suffix in suffixes and not p.name.startswith("."))
        return [p for p in found if p.suffix == ".tar"] or found  # beside shards lie lists of what was rejected
    if has_magic(str(path)) and not path.exists():
        return [p for p in map(Path, sorted(glob(str(path)))) if p.suffix in suffixes]
    return [path] if path.suffix in suffixes else []


def _packed(path: str) -> str:
    """The way out where the files are there, but compressed."""
    there = [path, *glob(path if has_magic(path) else os.path.join(path, "*"))]
    packed = next((p for p in there if p.endswith(COMPRESSED)), None)
    return f" ({Path(packed).name} is compressed and has no places to jump to: unpack it, e.g. with gunzip or unzstd)" if packed else ""


def refuse_twins(source: str, files: Sequence[DataFile]) -> None:
    """ValueError when two files share a name (ids of samples would), or there is none."""
    stems = [stem(f.name) for f in files]
    twin = next((f.name for f in files if stems.count(stem(f.name)) > 1), None) if len(set(stems)) < len(stems) else None
    if twin or not stems:
        which = f"two shards named {twin}" if twin else "no shards"
        raise ValueError(f"data.sources: source {source!r} has {which}; sample ids need different names: rename one or make two sources")
