"""The index of one shard: from the JSON written beside it, or from one walk over the tar where there is none.

Both are kept in binary form (index_cache.py), so that the JSON is parsed and a tar is walked once.
Ours: the report does not describe its storage; the tar layout is webdataset's (members of one sample are adjacent).
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterator

from ernie5.data_pipelines.data_files import DataFile
from ernie5.data_pipelines.index_cache import IndexSpec
from ernie5.data_pipelines.index_file import Entry, IndexHeader, IndexWriter
from ernie5.data_pipelines.scan_tar import scan_tar
from ernie5.data_pipelines.write_shards import INDEX_FORMAT

MAX_INDEX_BYTES = 2**28
_SMALLEST = 4096
_CHECKSUM = re.compile(rb'\s*\{\s*"crc32"\s*:\s*(\d{1,10})\s*,')  # of all that follows; older indexes have none


def shard_index(tar: DataFile) -> IndexSpec:
    """How the index of a shard is made."""
    beside = tar.companion(".index.json")
    if beside is None:
        return IndexSpec("tar", tar, tar, lambda writer: scan_tar(tar, writer))
    return IndexSpec("json", tar, beside, lambda writer: _add_json(tar, beside, writer), lambda: _hash(_text_of(tar, beside)))


def _hash(text: bytes) -> str:
    return hashlib.sha256(text).hexdigest()


def _text_of(tar: DataFile, beside: DataFile) -> bytes:
    if beside.size() > MAX_INDEX_BYTES:
        raise ValueError(f"shard index {beside.shown} has {beside.size()} bytes, more than {MAX_INDEX_BYTES}; {_WAY_OUT}")
    if beside.size() > tar.size() + _SMALLEST:  # a member takes 512 bytes and more in the tar, about 70 in its index
        raise ValueError(f"shard index {beside.shown} is damaged: it has {beside.size()} bytes, its tar only {tar.size()}; {_WAY_OUT}")
    return beside.local().read_bytes()


_WAY_OUT = "restore it, or delete it to have the tar scanned instead"


def _add_json(tar: DataFile, beside: DataFile, writer: IndexWriter) -> IndexHeader:
    """ValueError when the JSON is damaged."""
    text = _text_of(tar, beside)
    try:
        checksum = _CHECKSUM.match(text)
        if checksum and int(checksum[1]) != zlib.crc32(text[checksum.end():]):
            raise ValueError("its checksum is wrong")
        found = json.loads(text)
        if "crc32" in found and not checksum:
            raise ValueError("its checksum is none")
        if found["format"] != INDEX_FORMAT:
            raise ValueError(f"format {found['format']!r} is not {INDEX_FORMAT}")
        if found["tar"] != tar.name:
            raise ValueError(f"it belongs to {found['tar']!r}")
        keys = set()
        for key, entries in _samples(found["samples"]):
            keys.add(key)
            writer.add(key, entries)
        writer.done(len(text))
        if len(keys) < writer.num_samples:
            raise ValueError("a key appears twice")
        size = _count(found["size"])
        codes = json.dumps(found["codes"], sort_keys=True) if "codes" in found else ""
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"shard index {beside.shown} is damaged ({type(error).__name__}: {error}); {_WAY_OUT}") from None
    return IndexHeader(kind="", file="", stamp="", settled=False, size=size, fingerprint=_hash(text), codes=codes)


def _samples(samples: list) -> Iterator[tuple[str, list[Entry]]]:
    for sample in samples:
        members = sample["members"]
        yield _text(sample["key"]), [Entry(_text(m["name"]), _count(m["offset"]), _count(m["length"]), _crc32(m["crc32"])) for m in members]


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{value!r} is not a count")
    return value


def _crc32(value: object) -> int:
    if _count(value) >= 2**32:
        raise ValueError(f"{value!r} is not a CRC-32")
    return int(value)  # type: ignore[call-overload]


def _text(value: object) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 255 or not value.isprintable():
        raise ValueError(f"{value!r} is not a name")
    if value.startswith("/") or "\\" in value or ".." in value.split("/"):
        raise ValueError(f"{value!r} is no safe name (absolute, '..' or a backslash)")
    return value
