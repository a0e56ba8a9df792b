"""The manifest of a checkpoint: what belongs to it, how long it is and what it hashes to.

    manifest.json   format version, run id, step, recipe fingerprint, every file (SHA-256, bytes),
                    every tensor (file, shape, dtype), and its own hash
    COMMIT          SHA-256 of manifest.json; written last, so a folder without it is no checkpoint

A flipped byte anywhere changes a hash; files of another step or run have other hashes; a manifest of another step names another step.
File names come from a closed set: nothing a manifest says can lead outside its folder.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

from ernie5.run.files import hash_stream, open_regular, read_regular

FORMAT = "ernie5-checkpoint"
VERSION = 1
MANIFEST, COMMIT, STATE = "manifest.json", "COMMIT", "state.json"
_LARGEST_MANIFEST_BYTES = 2**28
_FILE_NAME = re.compile(r"tensors-\d{5}\.safetensors|state\.json")


class UnknownVersion(ValueError):
    """An intact checkpoint of a later format: not damage, so nobody may fall back to an older checkpoint because of it."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint."""

    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies and what it looks like, e.g. `("tensors-00000.safetensors", (64, 32), "float32")`."""

    file: str
    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True)
class Manifest:
    """Everything that a checkpoint says about itself."""

    run_id: str
    step: int
    fingerprint: str
    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]

    def encode(self) -> bytes:
        """The text of manifest.json, self-hash included."""
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps({**body, "sha256": _self_hash(body)}, indent=1).encode()


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


def read_files(folder: Path, manifest: Manifest) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every file, each read once and checked. ValueError naming the file that is missing or changed."""
    for name, entry in manifest.files.items():
        data = read_regular(folder / name, entry.num_bytes)
        if digest(data) != entry.sha256:
            raise _changed(folder / name)
        yield name, data


def verify(folder: Path) -> None:
    """Read and check every byte of a checkpoint folder. ValueError naming what is wrong, OSError when the disk fails."""
    for name, entry in read_manifest(folder).files.items():
        with open_regular(folder / name, entry.num_bytes) as file:
            if hash_stream(file) != (entry.sha256, entry.num_bytes):
                raise _changed(folder / name)


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(data).hexdigest()


def _changed(path: Path) -> ValueError:
    return ValueError(f"{path} was changed: its SHA-256 is not the one in {MANIFEST}")


def _self_hash(body: dict[str, object]) -> str:
    return digest(json.dumps(body, sort_keys=True).encode())


def _parse(data: bytes, path: Path) -> Manifest:
    try:
        body = json.loads(data)
        kind, version, self_hash = body["format"], body["version"], body.pop("sha256")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{path} is not a manifest") from None
    if kind != FORMAT or not isinstance(version, int):
        raise ValueError(f"{path} is not a manifest of {FORMAT}")
    if version > VERSION:
        raise UnknownVersion(f"{path} has format version {version}, this ernie5 reads up to {VERSION}; use the ernie5 that wrote it")
    if self_hash != _self_hash(body):
        raise ValueError(f"{path} was edited: its own hash does not fit")
    try:
        files = {str(name): FileEntry(str(f["sha256"]), int(f["num_bytes"])) for name, f in body["files"].items()}
        tensors = {str(name): TensorEntry(str(t["file"]), tuple(int(n) for n in t["shape"]), str(t["dtype"]))
                   for name, t in body["tensors"].items()}
        manifest = Manifest(str(body["run_id"]), int(body["step"]), str(body["fingerprint"]), files, tensors)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} lacks something: {error!r}") from None
    for name in (STATE, *files, *(t.file for t in tensors.values())):
        if not _FILE_NAME.fullmatch(name) or name not in files:
            raise ValueError(f"{path}: {name[:100]!r} is a name that no checkpoint holds, or is not listed among its files")
    return manifest
