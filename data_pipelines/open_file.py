"""A plain file that is read at positions, by any number of threads, and closed when nobody uses it any more.

Positioned reads share no cursor, so the descriptor may be inherited by worker processes. Nothing is mapped into memory: a file that
shrinks while it is read gives fewer bytes, which the reader notices, where a mapped one would kill the process.
Ours: all of it.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path


class OpenFile:
    """One open descriptor. OSError when the file is missing, ValueError when it is a folder, a device or a pipe."""

    def __init__(self, path: Path) -> None:
        self.fd = -1
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(self.fd).st_mode):
            raise ValueError(f"{path} is not a plain file")

    def size(self) -> int:
        """Bytes of the file now; -1 when it was deleted or replaced since it was opened."""
        found = os.fstat(self.fd)
        return found.st_size if found.st_nlink else -1

    def read(self, offset: int, length: int) -> bytes:
        """`length` bytes from `offset` on; fewer only where the file ends."""
        data = os.pread(self.fd, length, offset)
        if len(data) == length or not data:
            return data
        parts = [data]  # the kernel gives at most 2 GiB at a time, network file systems less
        while (got := sum(map(len, parts))) < length and (more := os.pread(self.fd, length - got, offset + got)):
            parts.append(more)
        return b"".join(parts)

    def __del__(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
