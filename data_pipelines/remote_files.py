"""Files of a source that lie far away: http(s)://, s3://, gs:// and whatever else fsspec knows. Each is fetched whole when it is needed.

    {path: "s3://bucket/train-*.tar"}    {path: "https://host/train-{0000..0099}.tar"}    {path: "https://$USER:$DATA_PASSWORD@host/a.tar"}

Small things (sizes, tags, `.index.json`) are asked for when the source is opened. The stamp of a file is its size and the server's tag
(ETag, or the time of the last change). Names of environment variables in the path are filled in here, so that recipes hold no secrets;
no message shows them. Needs the extra `remote`.
Ours: all of it.
"""

from __future__ import annotations

import datetime
import os
import posixpath
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit, urlunsplit

from ernie5.data_pipelines.data_files import SETTLED_S, Stamp, cache_home, expand_ranges, short_hash
from ernie5.data_pipelines.remote_store import RemoteStore, Unreachable, ask, file_system
from ernie5.run.secrets import HIDDEN

T = TypeVar("T")
_ASK_AT_ONCE = 16
_TAGS = ("ETag", "etag", "md5Hash", "content_md5", "crc32c", "generation")
_TIMES = ("LastModified", "Last-Modified", "last_modified", "mtime", "updated", "created")


@dataclass(frozen=True)
class RemoteFile:
    """One remote file, as it was when the source was opened. `found_size` is None where the server does not tell."""

    url: str = field(repr=False)
    found: Stamp
    found_size: int | None
    store: RemoteStore
    beside: "RemoteFile | None" = None

    @property
    def name(self) -> str:
        return posixpath.basename(_path_of(self.url))

    @property
    def shown(self) -> str:
        return shown(self.url)

    def stamp(self) -> Stamp:
        return self.found

    def size(self) -> int:
        return self.found_size if self.found_size is not None else os.stat(self.local()).st_size

    def local(self) -> Path:
        return self.store.fetch(self.url, self.shown, self.found, self.found_size)

    def renew(self) -> bool:
        return self.store.renew(self.url, self.shown, self.found)

    def companion(self, suffix: str) -> "RemoteFile | None":
        return self.beside if self.beside is not None and self.beside.name.endswith(suffix) else None

    def index_places(self) -> list[Path]:
        return [cache_home() / "index" / f"{short_hash(self.shown)}.index"]


def shown(url: str) -> str:
    """A URL as people may see it: no user, password, query."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def remote_files(source: str, path: str, suffixes: Sequence[str], room: int) -> list[RemoteFile]:
    """The files at a URL: one, a range, a pattern or a folder. ValueError when there are none, Unreachable when nobody can be asked."""
    url = os.path.expandvars(path)
    if HIDDEN in url:
        raise ValueError(f"data.sources.{source}.path had a password, which is kept out of saved recipes; write $NAME for it "
                         "and set that environment variable")
    if "::" in url:
        raise ValueError(f"data.sources.{source}.path must be one plain URL, without '::'")
    store = RemoteStore(cache_home() / "remote" / short_hash(posixpath.dirname(shown(url)))[:16], room, f"data.sources.{source}.disk_gib")
    urls = [u for one in expand_ranges(url) for u in _listed(one, suffixes)]
    if not urls or not all(_path_of(u).endswith(tuple(suffixes)) for u in urls):
        raise ValueError(f"data.sources: source {source!r} has no shards at {shown(url)}; "
                         f"give a {' or '.join(suffixes)} file, a range, a pattern or a folder of them")
    with ThreadPoolExecutor(_ASK_AT_ONCE) as pool:
        beside = list(pool.map(lambda u: _index_beside(u, store), urls))
        found = list(pool.map(lambda u: _found(u, store), urls))
    for url, one in zip(urls, found, strict=True):
        if one is None:
            raise ValueError(f"data.sources: source {source!r} has no shards at {shown(url)}: there is no such file")
        store.fits(one.found_size or 0, shown(url))
    return [RemoteFile(f.url, f.found, f.found_size, store, b) for f, b in zip(found, beside, strict=True) if f is not None]


def _listed(url: str, suffixes: Sequence[str]) -> list[str]:
    system = file_system(url)
    if "*" in url:
        return sorted(map(system.unstrip_protocol, _ask_or_none(url, lambda: system.glob(url)) or []))
    if _path_of(url).endswith(tuple(suffixes)):
        return [url]
    names = _ask_or_none(url, lambda: system.ls(url, detail=False)) or []
    return sorted(u for u in map(system.unstrip_protocol, names) if _path_of(u).endswith(tuple(suffixes)))


def _index_beside(url: str, store: RemoteStore) -> RemoteFile | None:
    if not _path_of(url).endswith(".tar"):
        return None
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return _found(urlunsplit(parts._replace(path=parts.path[: -len(".tar")] + ".index.json")), store)
    return _found(url[: -len(".tar")] + ".index.json", store)


def _found(url: str, store: RemoteStore) -> RemoteFile | None:
    """None where the server says that there is no such file."""
    info = _ask_or_none(url, lambda: file_system(url).info(url))
    if info is None or info.get("type") == "directory":
        return None
    size = info.get("size")
    tag = next((str(info[k]) for k in _TAGS if info.get(k)), "")
    time = next((info[k] for k in _TIMES if info.get(k)), None)
    return RemoteFile(url, Stamp(f"{size} {tag or time}", bool(tag) or _long_ago(time)), size, store)


def _ask_or_none(url: str, question: Callable[[], T]) -> T | None:
    try:
        return ask(shown(url), question)
    except FileNotFoundError:
        return None
    except Unreachable as error:
        if error.status == 403 and _path_of(url).endswith(".index.json"):
            return None  # stores that let nobody list say 403 for what is not there
        raise


def _long_ago(time: Any) -> bool:
    """Whether a time of last change lies far enough back: a second change could not have the same one."""
    try:
        if isinstance(time, str):
            time = parsedate_to_datetime(time)
        if isinstance(time, datetime.datetime):
            time = (time if time.tzinfo else time.replace(tzinfo=datetime.timezone.utc)).timestamp()
        return datetime.datetime.now().timestamp() - float(time) > SETTLED_S
    except (TypeError, ValueError):
        return False


def _path_of(url: str) -> str:
    """The path of a URL; the names of buckets and keys may hold any letter."""
    return urlsplit(url).path if url.startswith(("http://", "https://")) else url
