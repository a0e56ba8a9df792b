"""A folder with whole copies of remote files, at most `room` bytes: the ones used longest ago make room for new ones.

Any number of processes may share it. A copy appears under its name when it is complete and has the size that the server told; its name
is a hash of URL and stamp, so a file that changes far away is another file here. What is inside is checked by whoever reads it.
Ours: all of it.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ernie5.data_pipelines.data_files import Stamp, short_hash
from ernie5.data_pipelines.index_cache import file_lock
from ernie5.run.secrets import mask

log = logging.getLogger(__name__)
T = TypeVar("T")

WAITS_S = (1.0, 4.0)        # before the second and the third try
_LOCKS = 64
_ABANDONED_S = 86_400.0


class Unreachable(ConnectionError):
    """A remote file could not be had. Not a damaged sample: nothing is skipped because a network is down."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RemoteStore:
    """Copies in `folder`; `key` is the setting that bounds it, for messages."""

    def __init__(self, folder: Path, room: int, key: str) -> None:
        self.folder, self.room, self.key = folder, room, key
        self._opened = f"{os.getpid()} {time.time_ns()}"
        self._renewed: set[str] = set()

    def fetch(self, url: str, shown: str, stamp: Stamp, size: int | None) -> Path:
        """The path of a copy. ValueError when it does not fit, FileNotFoundError when it is gone, Unreachable when it cannot be had."""
        path = self._path(shown, stamp)
        if _is_whole(path, size):
            return path
        self._check_folder()
        number = int(path.stem[:8], 16) % _LOCKS
        with file_lock([self.folder / f"lock-{number:02d}"]):
            if _is_whole(path, size):
                return path
            self._make_room(size or 0, shown)
            partial = path.with_name(f"{path.name}.{size or 0}.{os.getpid()}-{threading.get_ident()}.part")
            try:
                log.info("fetching %s", shown)
                ask(shown, lambda: _download(url, shown, partial, size))
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        return path

    def renew(self, url: str, shown: str, stamp: Stamp) -> bool:
        """Drop a copy that turned out to be wrong. True once per file and process: then the fault is not in the copy."""
        if url in self._renewed:
            return False
        self._renewed.add(url)
        log.warning("the copy of %s is damaged; fetching it again", shown)
        self._path(shown, stamp).unlink(missing_ok=True)
        return True

    def _path(self, shown: str, stamp: Stamp) -> Path:
        # a stamp that could hide a change is only good for this opening of the source
        return self.folder / f"{short_hash(f'{shown} {stamp.text}' + ('' if stamp.settled else f' {self._opened}'))}.copy"

    def _check_folder(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if not os.access(self.folder, os.W_OK):
                raise PermissionError(errno.EACCES, "permission denied")
        except OSError as error:
            raise Unreachable(f"copies of remote data cannot be kept in {self.folder} ({error.strerror}); "
                              "set XDG_CACHE_HOME to a folder that can be written") from None

    def fits(self, size: int, shown: str) -> None:
        """ValueError when a file of this size never will."""
        if size > self.room:
            raise ValueError(f"{shown} has {size} bytes, more than {self.key} = {self.room / 2**30:g} allows; raise it")

    def _make_room(self, size: int, shown: str) -> None:
        self.fits(size, shown)
        with file_lock([self.folder / "lock-room"]):
            copies, used = [], 0
            for path in self.folder.iterdir():
                with suppress(OSError):
                    found = path.stat()
                    if path.suffix == ".part":
                        if time.time() - found.st_mtime > _ABANDONED_S:
                            path.unlink()
                        else:
                            used += max(found.st_size, int(path.name.split(".")[2]))
                    elif path.suffix == ".copy":
                        copies.append((found.st_mtime_ns, found.st_size, path))
                        used += found.st_size
            for _, bytes_there, path in sorted(copies):
                if used + size <= self.room:
                    break
                path.unlink(missing_ok=True)  # whoever has it open reads on
                used -= bytes_there


def _is_whole(path: Path, size: int | None) -> bool:
    try:
        whole = size is None or path.stat().st_size == size
        os.utime(path)  # used now
    except OSError:
        return False
    return whole


def _download(url: str, shown: str, partial: Path, size: int | None) -> None:
    partial.unlink(missing_ok=True)
    file_system(url).get_file(url, str(partial))
    got = partial.stat().st_size
    if size is not None and got != size:
        raise OSError(f"{got} of {size} bytes came")


def file_system(url: str) -> Any:
    """The fsspec file system of a URL. ValueError when a package for it is missing, or nobody knows it."""
    kind = url.partition("://")[0]
    try:
        import fsspec.core

        if kind in ("http", "https"):
            import aiohttp

            patience = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
            return fsspec.core.url_to_fs(url, client_kwargs={"timeout": patience})[0]
        return fsspec.core.url_to_fs(url)[0]
    except ImportError as error:
        raise ValueError(f"{kind}:// needs more packages ({mask(str(error))[:100]}): pip install 'ernie5[remote]', "
                         "or copy the data here") from None
    except ValueError as error:
        raise ValueError(f"{kind}:// cannot be read: {mask(str(error))[:100]}") from None


def ask(shown: str, question: Callable[[], T]) -> T:
    """Ask a server, three times if need be. FileNotFoundError when there is nothing, else Unreachable; neither holds the URL's secrets."""
    for wait_s in (*WAITS_S, None):
        try:
            return question()
        except Exception as caught:  # every file system has errors of its own
            # fsspec says of whatever went wrong over http that there is no such file; the cause tells
            error = caught.__cause__ if isinstance(caught, FileNotFoundError) and isinstance(caught.__cause__, Exception) else caught
            status = getattr(error, "status", None)
            if isinstance(error, FileNotFoundError) or status in (404, 410):
                raise FileNotFoundError(2, "No such file or directory", shown) from None
            refused = isinstance(error, PermissionError) or (isinstance(status, int) and 400 <= status < 500 and status not in (408, 429))
            if refused or wait_s is None:
                reason = f"{status} {getattr(error, 'message', '')}" if status else type(error).__name__ if refused else _reason(error)
                way_out = "check the credentials in the environment" if refused else "check the network, or copy the data here"
                if getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
                    way_out = "the disk is full: free some, or lower disk_gib"
                raise Unreachable(f"{shown} cannot be read ({reason.strip()}); {way_out}", status) from None
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def _reason(error: Exception) -> str:
    """The kind of an error, and its text where that cannot hold a URL."""
    text = str(error)
    return type(error).__name__ if "://" in text or not text else f"{type(error).__name__}: {mask(text)[:100]}"
