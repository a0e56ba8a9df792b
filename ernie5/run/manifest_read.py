"""Reading a manifest that anybody may have written: every field is checked before it is used, and formats from before still count.

Version 1 had whole tensors only: `{"file", "shape", "dtype"}`. Ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ernie5.run.boxes import Shape
from ernie5.run.files import hash_stream, open_regular, read_regular
from ernie5.run.manifest import (
    COMMIT,
    FORMAT,
    MANIFEST,
    VERSION,
    FileEntry,
    Manifest,
    PartEntry,
    TensorEntry,
    UnknownVersion,
    digest,
    self_hash,
)

_LARGEST_MANIFEST_BYTES = 2**28


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a committed checkpoint folder. ValueError when it is absent, damaged, edited or of an unknown format."""
    path, commit = folder / MANIFEST, folder / COMMIT
    promised = read_regular(commit, 65).decode("ascii", "replace").strip()
    size = path.lstat().st_size if path.exists() else 0
    if size > _LARGEST_MANIFEST_BYTES:
        raise ValueError(f"{path} has {size} bytes, more than any manifest")
    data = read_regular(path, size)
    if digest(data) != promised:
        raise ValueError(f"{path} does not match {COMMIT}: one of them was changed")
    manifest = _parse(data, path)
    if not folder.name.endswith(f"step-{manifest.step:08d}"):
        raise ValueError(f"{path} belongs to step {manifest.step}")
    return manifest


def check_file(folder: Path, name: str, entry: FileEntry) -> None:
    """Read every byte of a file. ValueError naming the file when it is missing or changed."""
    with open_regular(folder / name, entry.num_bytes) as file:
        if hash_stream(file) != (entry.sha256, entry.num_bytes):
            raise ValueError(f"{folder / name} was changed: its SHA-256 is not the one in {MANIFEST}")


def verify(folder: Path) -> None:
    """Read and check every byte of a checkpoint folder. ValueError naming what is wrong, OSError when the disk fails."""
    for name, entry in read_manifest(folder).files.items():
        check_file(folder, name, entry)


def check_sizes(folder: Path) -> None:
    """The quick look at a checkpoint whose bytes were hashed a moment ago: its manifest is intact and every file has its length."""
    for name, entry in read_manifest(folder).files.items():
        with open_regular(folder / name, entry.num_bytes):
            pass


def tensor_entry(plain: Any) -> TensorEntry:
    """A tensor as JSON says it. KeyError, TypeError or ValueError for what is none."""
    parts = tuple(PartEntry(_text(p["file"]), _text(p["key"]), _sizes(p["at"]), _sizes(p["shape"])) for p in plain["parts"])
    return TensorEntry(_sizes(plain["shape"]), _text(plain["dtype"]), parts)


def file_entry(plain: Any) -> FileEntry:
    """A file as JSON says it."""
    return FileEntry(_text(plain["sha256"]), _number(plain["num_bytes"]))


def _parse(data: bytes, path: Path) -> Manifest:
    try:
        body = json.loads(data)
        kind, version, own_hash = body["format"], body["version"], body.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is not a manifest") from None
    if kind != FORMAT or not isinstance(version, int) or version < 1:
        raise ValueError(f"{path} is not a manifest of {FORMAT}")
    if version > VERSION:
        raise UnknownVersion(f"{path} has format version {version}, this ernie5 reads up to {VERSION}; use the ernie5 that wrote it")
    if own_hash != self_hash(body):
        raise ValueError(f"{path} was edited: its own hash does not fit")
    try:
        tensors = {name: (tensor_entry(t) if version > 1 else _first_format(name, t)) for name, t in body["tensors"].items()}
        manifest = Manifest(
            str(body["run_id"]), int(body["step"]), str(body["fingerprint"]), {n: file_entry(f) for n, f in body["files"].items()}, tensors,
            str(body["attempt"]) if version > 1 else "")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} lacks something: {error!r}") from None
    try:
        manifest.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    return manifest


def _first_format(name: str, plain: Any) -> TensorEntry:
    shape = _sizes(plain["shape"])
    return TensorEntry(shape, _text(plain["dtype"]), (PartEntry(_text(plain["file"]), name, (0,) * len(shape), shape),))


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{str(value)[:100]} is no text")
    return value


def _number(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError(f"{str(value)[:100]} is no size")
    return value


def _sizes(value: Any) -> Shape:
    if not isinstance(value, list):
        raise ValueError(f"{str(value)[:100]} is no list of sizes")
    return tuple(_number(n) for n in value)
