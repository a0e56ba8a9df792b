"""Durable small files: write beside the target, fsync, rename. A reader sees the old content or the new, never a part."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO


def atomic_write(path: Path, data: bytes) -> None:
    """Replace the file at `path` by `data`. On an OSError (a full disk) the old file stays and the partial one is removed."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(partial, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(path: Path) -> None:
    """Make the names inside a folder (creations, renames) survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def hash_stream(file: BinaryIO) -> tuple[str, int]:
    """SHA-256 in hex and the number of bytes of what is left of an open file, in little memory."""
    sha, num_bytes = sha256(), 0
    while block := file.read(2**20):
        sha.update(block)
        num_bytes += len(block)
    return sha.hexdigest(), num_bytes


def sync_and_hash(path: Path) -> tuple[str, int]:
    """Make a file that was just written durable, and read it back meanwhile: SHA-256 in hex and its bytes."""
    with open(path, "rb") as file, ThreadPoolExecutor(1, "fsync") as beside:
        synced = beside.submit(os.fsync, file.fileno())
        found = hash_stream(file)
        synced.result()
    return found


def read_regular(path: Path, num_bytes: int) -> bytes:
    """All bytes of a plain file that must be exactly `num_bytes` long; refuses what `open_regular` refuses."""
    with open_regular(path, num_bytes) as file:
        data = file.read(num_bytes)
    if len(data) != num_bytes:
        raise ValueError(f"{path} ended after {len(data)} of {num_bytes} bytes")
    return data


@contextmanager
def open_regular(path: Path, num_bytes: int) -> Iterator[BinaryIO]:
    """A plain file that must be exactly `num_bytes` long. ValueError for links, devices, pipes and other sizes.

    The size is checked before anything is read, and no link is followed out of the folder.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise ValueError(f"{path} is missing") from None
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror} (links are not followed)") from None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise ValueError(f"{path} is not a plain file")
        if found.st_size != num_bytes:
            raise ValueError(f"{path} has {found.st_size} bytes, expected {num_bytes}")
        with open(descriptor, "rb", closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)
