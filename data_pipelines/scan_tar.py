"""Index a tar that has no index: one walk over its headers, one pass over its bytes for their checksums.

Nothing is ever extracted: a member is a name, an offset and a length. Names that could leave a folder, links and devices make
their sample unusable; a tar that ends too early keeps the samples before the last one that it names.
Ours: all of it; the checksums make a shard that is changed later as noticeable as one of ours.
"""

from __future__ import annotations

import hashlib
import tarfile
import zlib

from ernie5.data_pipelines.data_files import DataFile
from ernie5.data_pipelines.index_file import Entry, IndexHeader, IndexWriter
from ernie5.data_pipelines.open_file import OpenFile
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION

_END_MARK = bytes(tarfile.BLOCKSIZE)
_CHUNK = 2**20
MAX_PROBLEMS = 10_000   # named one by one


def scan_tar(tar: DataFile, writer: IndexWriter) -> IndexHeader:
    """Add every whole sample of a tar. ValueError when it is no plain tar at all."""
    groups: dict[str, dict[str, Entry]] = {}
    problems: dict[str, str] = {}
    ignored: dict[str, int] = {}
    last = None
    data = OpenFile(tar.local())
    size = data.size()
    with open(data.fd, "rb", closefd=False) as file:
        cut, infos = _walk(tar.shown, file, size)
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
    notes = [("(ignored)", f"{count} members {what} are not used") for what, count in sorted(ignored.items())]
    found = [*problems.items(), *notes]
    if len(found) > MAX_PROBLEMS:
        found[MAX_PROBLEMS:] = [("(more)", f"{len(found) - MAX_PROBLEMS} more are like these")]
    old_fingerprint = hashlib.sha256(repr((size, samples)).encode("utf-8", "surrogateescape")).hexdigest()
    for key, entries in samples:
        writer.add(key, [e._replace(crc32=crc32_of(data, e.offset, e.length)) for e in entries])
        writer.done(sum(e.length for e in entries))
    fingerprint = hashlib.sha256(f"{size} {writer.fingerprint}".encode()).hexdigest()
    return IndexHeader(kind="", file="", stamp="", settled=False, size=size, fingerprint=fingerprint,
                       old_fingerprint=old_fingerprint, problems=tuple(found))


def crc32_of(file: OpenFile, offset: int, length: int) -> int:
    """CRC-32 of a part of a file, in little memory. ValueError when the file ends inside it."""
    crc32 = 0
    for at in range(offset, offset + length, _CHUNK):
        data = file.read(at, min(_CHUNK, offset + length - at))
        if not data:
            raise ValueError(f"the file became shorter than {offset + length} bytes while it was read; start again on finished files")
        crc32 = zlib.crc32(data, crc32)
    return crc32


def _walk(shown: str, file, size: int) -> tuple[str, list[tarfile.TarInfo]]:
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
                return _behind_the_end(file, 0, size), []
            raise ValueError(f"data.sources: {shown} is not a plain tar ({error}); "
                             "unpack a compressed one (gunzip, unzstd) first") from None
        return f"unreadable header after byte {max(offset, 0)}: {error}", infos
    file.seek(archive.offset)
    if file.read(tarfile.BLOCKSIZE) != _END_MARK:
        return f"no end mark at byte {archive.offset} of {size}", infos
    return _behind_the_end(file, archive.offset, size), infos


def _behind_the_end(file, at: int, size: int) -> str:
    """What follows an end mark at byte `at`: only zeros, few of them where nothing came before; "" then."""
    while chunk := file.read(_CHUNK):
        if chunk.count(0) < len(chunk):  # zeros where a header was, or a second tar
            return f"there is more behind an end mark at byte {at} of {size}"
    return f"it has {size} bytes, all of them zeros" if at == 0 and size > tarfile.RECORDSIZE else ""


def _refusal(info: tarfile.TarInfo, name: str) -> str:
    if not info.isreg() or info.issparse():
        kind = "a link" if info.issym() or info.islnk() else "not a plain file"
        return f"member {_printable(name)} is {kind}; only plain files are read"
    if name.startswith("/") or ".." in name.split("/") or "\\" in name or len(name) > 255 or not name.isprintable():
        return f"member {_printable(name)} has an unsafe name (absolute, '..', a backslash, unprintable or longer than 255)"
    return ""


def _printable(name: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in name[:300])
