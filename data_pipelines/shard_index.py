"""Where the bytes of every sample of a shard are: read from the index beside it, or found by one walk over the tar's headers.

Nothing is ever extracted: a member is a name, an offset and a length. Names that could leave a folder, links and devices make
their sample unusable; a tar that ends too early keeps the samples before the last one that it names.
Ours: the report does not describe its storage; the tar layout is webdataset's (members of one sample are adjacent).
"""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path

from ernie5.data_pipelines.write_shards import INDEX_FORMAT, MODALITY_OF_EXTENSION, index_path

MAX_INDEX_BYTES = 2**28
_END_MARK = bytes(tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Entry:
    """One member: what follows the key in its name (`0.txt`), and where its bytes are. `crc32` is None when nobody recorded it."""

    name: str
    offset: int
    length: int
    crc32: int | None


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one shard as (key, entries), what was left out as (key, reason), and a hash that changes with any of it."""

    size: int
    samples: tuple[tuple[str, tuple[Entry, ...]], ...]
    problems: tuple[tuple[str, str], ...]
    fingerprint: str


def load_index(tar: Path) -> ShardIndex:
    """The index written beside a shard. ValueError when it is damaged."""
    path = index_path(tar)
    way_out = "restore it, or delete it to have the tar scanned instead"
    if path.stat().st_size > MAX_INDEX_BYTES:
        raise ValueError(f"shard index {path} has {path.stat().st_size} bytes, more than {MAX_INDEX_BYTES}; {way_out}")
    text = path.read_bytes()
    try:
        found = json.loads(text)
        if found["format"] != INDEX_FORMAT:
            raise ValueError(f"format {found['format']!r} is not {INDEX_FORMAT}")
        if found["tar"] != tar.name:
            raise ValueError(f"it belongs to {found['tar']!r}")
        samples = tuple((_text(s["key"]), tuple(_entry(m) for m in s["members"])) for s in found["samples"])
        size = _count(found["size"])
        if len({key for key, _ in samples}) < len(samples):
            raise ValueError("a key appears twice")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"shard index {path} is damaged ({type(error).__name__}: {error}); {way_out}") from None
    return ShardIndex(size, samples, (), hashlib.sha256(text).hexdigest())


def scan_tar(tar: Path) -> ShardIndex:
    """Index a tar that has no index file by walking over its headers. ValueError when it is no plain tar at all."""
    groups: dict[str, dict[str, Entry]] = {}
    problems: dict[str, str] = {}
    ignored: dict[str, int] = {}
    last = None
    size = tar.stat().st_size
    with open(tar, "rb") as file:
        cut, infos = _walk(tar, file, size)
        for info in infos:
            if info.isdir():
                continue
            name = info.name.removeprefix("./")
            folder, _, base = name.rpartition("/")
            stem, _, suffix = base.partition(".")
            key = f"{folder}/{stem}" if folder else stem
            reason = _refusal(info, name)
            if reason:
                problems[_printable(key)] = reason
            elif not stem or not suffix:
                ignored[f"named {base!r}"] = ignored.get(f"named {base!r}", 0) + 1
            elif (key != last and key in groups) or suffix.lower() in groups.get(key, {}):
                problems[key] = f"member {_printable(name)} appears a second time, or apart from the rest of its sample"
            else:
                groups.setdefault(key, {})[suffix.lower()] = Entry(suffix.lower(), info.offset_data, info.size, None)
                extension = suffix.lower().rpartition(".")[2]
                if extension not in MODALITY_OF_EXTENSION and extension != "json":
                    ignored[f"ending .{extension}"] = ignored.get(f"ending .{extension}", 0) + 1
            last = key
    if cut:
        problems[_printable(last) if last is not None else "(start)"] = f"the shard is damaged ({cut}); this sample may be incomplete"
    samples = tuple((key, tuple(entries.values())) for key, entries in groups.items() if _printable(key) not in problems)
    notes = tuple(("(ignored)", f"{count} members {what} are not used") for what, count in sorted(ignored.items()))
    fingerprint = hashlib.sha256(repr((size, samples)).encode("utf-8", "surrogateescape")).hexdigest()
    return ShardIndex(size, samples, (*problems.items(), *notes), fingerprint)


def _walk(tar: Path, file, size: int) -> tuple[str, list[tarfile.TarInfo]]:
    """All headers whose bytes are there, and why the walk ended before the end mark ('' when it did not)."""
    infos: list[tarfile.TarInfo] = []
    offset = -1
    archive = None
    try:
        archive = tarfile.open(fileobj=file, mode="r:")
        while (info := archive.next()) is not None:
            if info.offset <= offset or info.size < 0:
                return f"the header at byte {info.offset} points backwards", infos
            if info.isreg() and info.offset_data + info.size > size:
                infos.append(info)  # its sample is the last one, and incomplete
                return f"it ends at byte {size}, inside {_printable(info.name)}", infos
            offset = info.offset
            infos.append(info)
    except Exception as error:  # hostile headers make tarfile raise almost anything
        if archive is None:
            file.seek(0)
            if file.read(tarfile.BLOCKSIZE) == _END_MARK:
                return "", []
            raise ValueError(f"data.sources: {tar} is not a plain tar ({error}); unpack a compressed one (gunzip, unzstd) first") from None
        return f"unreadable header after byte {max(offset, 0)}: {error}", infos
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != _END_MARK:
        return f"no end mark at byte {archive.offset} of {size}", infos
    return "", infos


def _refusal(info: tarfile.TarInfo, name: str) -> str:
    if not info.isreg() or info.issparse():
        kind = "a link" if info.issym() or info.islnk() else "not a plain file"
        return f"member {_printable(name)} is {kind}; only plain files are read"
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or len(name) > 255 or not name.isprintable():
        return f"member {_printable(name)} has an unsafe name (absolute, '..', a backslash, unprintable or longer than 255)"
    return ""


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:300])


def _entry(member: dict) -> Entry:
    return Entry(_text(member["name"]), _count(member["offset"]), _count(member["length"]), _count(member["crc32"]))


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a count")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise ValueError(f"{value!r} is not a name")
    return value
