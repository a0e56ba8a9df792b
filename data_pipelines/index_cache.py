"""The binary index of a file, kept from the first open on: beside the data where that can be written, else in the user's cache folder.

    train-000000.tar     .ernie5/train-000000.tar.index      or    $XDG_CACHE_HOME/ernie5/index/….index

It is used while the stamp of what it was made from is the same and was settled (data_files.py); else when a hash of the content says
so; else it is made again. A damaged one is made again. Several processes that open the same data make each index once.
Ours: all of it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from ernie5.data_pipelines.data_files import DataFile
from ernie5.data_pipelines.index_file import MAGIC, IndexFile, IndexHeader, IndexWriter, write_end

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class IndexSpec:
    """How the index of `file` is made. `made_from`: the file whose stamp counts. `build(writer) -> header` adds all samples; its stamp is
    filled in here. `content() -> fingerprint` is a cheap way to tell that the content is the same under another stamp.
    """

    kind: str
    file: DataFile
    made_from: DataFile
    build: Callable[[IndexWriter], IndexHeader]
    content: Callable[[], str] | None = None


def open_index(spec: IndexSpec, again: bool = False, done: Callable[[int], None] = lambda num_bytes: None) -> IndexFile:
    """The kept index, or a new one; `again` makes a new one whatever is kept; `done` hears of bytes worked through. Errors of `build`."""
    found = None if again else kept_index(spec)
    if found is not None:
        return found
    places = spec.file.index_places()
    with file_lock([place.parent / "lock" for place in places]):
        return (None if again else kept_index(spec)) or _make(spec, places, done)


def kept_index(spec: IndexSpec) -> IndexFile | None:
    """The kept index, where there is one for the content of now."""
    for place in spec.file.index_places():
        try:
            index = IndexFile.open(place)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError) as error:
            log.info("%s is made again: %s", place, error)
            continue
        if (index.header.kind, index.header.file) != (spec.kind, spec.file.name):
            continue
        stamp = spec.made_from.stamp()
        if index.header.stamp == stamp.text and index.header.settled:
            return index
        if spec.content is not None and spec.content() == index.header.fingerprint:
            return _restamp(index, replace(index.header, stamp=stamp.text, settled=stamp.settled), place)
    return None


def _make(spec: IndexSpec, places: list[Path], done: Callable[[int], None]) -> IndexFile:
    stamp = spec.made_from.stamp()  # before anything is read: what changes later has another one

    def write(out: BinaryIO) -> None:
        writer = IndexWriter(out, done)
        header = spec.build(writer)
        writer.finish(replace(header, kind=spec.kind, file=spec.file.name, stamp=stamp.text, settled=stamp.settled))

    for place in places:
        partial = _partial(place)
        if partial is None:
            continue
        try:
            with open(partial, "xb") as out:
                write(out)
            os.replace(partial, place)
            return IndexFile.open(place)
        except ConnectionError:
            raise  # remote data cannot be read
        except OSError as error:
            if error.filename not in (None, str(partial), str(place)):
                raise  # the data cannot be read
            log.info("the index of %s cannot be kept at %s: %s", spec.file.shown, place, error)
        finally:
            partial.unlink(missing_ok=True)
    memory = BytesIO()
    write(memory)
    return IndexFile.of_bytes(memory.getvalue())


def _restamp(index: IndexFile, header: IndexHeader, place: Path) -> IndexFile:
    """The same index under the stamp of now; where that cannot be written, it is compared by content again next time."""
    end = len(MAGIC) + sum(int.from_bytes(index.table[at + 8 : at + 12], "little") for at in range(0, len(index.table), 16))
    with suppress(OSError):
        partial = _partial(place)
        if partial is not None:
            try:
                with open(place, "rb") as old, open(partial, "xb") as out:
                    while end > 0 and (part := old.read(min(end, 2**20))):
                        end -= out.write(part)
                    write_end(out, index.table, header)
                os.replace(partial, place)
            finally:
                partial.unlink(missing_ok=True)
    return replace(index, header=header)


def _partial(place: Path) -> Path | None:
    """A name beside `place` for what is being written; None where nothing can be."""
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    partial = place.with_name(f"{place.name}.{os.getpid()}-{threading.get_ident()}.tmp")
    partial.unlink(missing_ok=True)
    return partial if os.access(place.parent, os.W_OK) else None


@contextmanager
def file_lock(places: list[Path]) -> Iterator[None]:
    """Hold the first of these lock files that can be opened until the block ends; none where no file system allows it."""
    file = next((f for f in map(_open_lock, places) if f is not None), None)
    if file is None:
        yield
        return
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log.info("waiting for another process that works in %s", Path(file.name).parent)
            fcntl.flock(file, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: two processes may do the same work
        yield


def _open_lock(place: Path) -> BinaryIO | None:
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        return open(place, "ab")
    except OSError:
        return None
