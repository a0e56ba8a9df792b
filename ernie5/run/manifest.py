"""The manifest of a checkpoint: what belongs to it, how long it is and what it hashes to.

    manifest.json   format version, run id, step, recipe fingerprint, every file (SHA-256, bytes),
                    every tensor (whole shape, dtype, and its parts: file, key, where it begins, shape), and its own hash
    COMMIT          SHA-256 of manifest.json; written last, so a folder without it is no checkpoint

A flipped byte anywhere changes a hash; files of another step or run have other hashes; a manifest of another step names another step.
File names come from a closed set: nothing a manifest says can lead outside its folder. Reading one: manifest_read.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256

from ernie5.run.boxes import Box, Shape, check_cover

FORMAT = "ernie5-checkpoint"
VERSION = 2
MANIFEST, COMMIT, STATE = "manifest.json", "COMMIT", "state.json"
FILE_NAME = re.compile(r"tensors(-\d{5}){1,2}\.safetensors|state\.json")


class CheckpointError(ValueError):
    """A checkpoint could not be saved, or one on disk cannot be trusted."""


class UnknownVersion(ValueError):
    """An intact checkpoint of a later format: not damage, so nobody may fall back to an older checkpoint because of it."""


@dataclass(frozen=True)
class FileEntry:
    """One file of a checkpoint."""

    sha256: str
    num_bytes: int


@dataclass(frozen=True)
class PartEntry:
    """A box of a tensor, stored under `key` in `file`."""

    file: str
    key: str
    at: Shape
    shape: Shape

    @property
    def box(self) -> Box:
        return self.at, self.shape


@dataclass(frozen=True)
class TensorEntry:
    """The whole tensor and where its parts lie, e.g. `((64, 32), "float32", (PartEntry("tensors-00000.safetensors", "w", …),))`."""

    shape: Shape
    dtype: str
    parts: tuple[PartEntry, ...]


@dataclass(frozen=True)
class Manifest:
    """Everything that a checkpoint says about itself. `attempt` names the save that wrote it."""

    run_id: str
    step: int
    fingerprint: str
    files: dict[str, FileEntry]
    tensors: dict[str, TensorEntry]
    attempt: str = ""

    def encode(self) -> bytes:
        """The text of manifest.json, self-hash included."""
        body = {"format": FORMAT, "version": VERSION, **asdict(self)}
        return json.dumps({**body, "sha256": self_hash(body)}, indent=1).encode()

    def check(self) -> None:
        """ValueError for names outside of the closed set, files that are not listed, and tensors that their parts do not make up."""
        for name in (STATE, *self.files, *(part.file for tensor in self.tensors.values() for part in tensor.parts)):
            if not FILE_NAME.fullmatch(name) or name not in self.files:
                raise ValueError(f"{name[:100]!r} is a name that no checkpoint holds, or is not listed among its files")
        for name, tensor in self.tensors.items():
            try:
                check_cover(tensor.shape, [part.box for part in tensor.parts])
            except ValueError as error:
                raise ValueError(f"tensor {name[:200]}: {error}") from None

    def keys(self) -> dict[str, dict[str, tuple[Shape, str]]]:
        """File -> key -> shape and dtype of everything that must lie in the tensor files. ValueError for a key with two meanings."""
        found: dict[str, dict[str, tuple[Shape, str]]] = {name: {} for name in self.files if name != STATE}
        for name, tensor in self.tensors.items():
            for part in tensor.parts:
                if part.key in found.get(part.file, {part.key: ()}):
                    raise ValueError(f"tensor {name[:200]} claims {part.key[:200]} in {part.file}, which is not its own")
                found[part.file][part.key] = (part.shape, tensor.dtype)
        return found


def merge_tensors(parts: Iterable[Mapping[str, TensorEntry]]) -> dict[str, TensorEntry]:
    """The tensors of all processes in one table. ValueError where two disagree about a tensor; what is missing is for `Manifest.check`."""
    merged: dict[str, TensorEntry] = {}
    for table in parts:
        for name, entry in table.items():
            known = merged.get(name, TensorEntry(entry.shape, entry.dtype, ()))
            if (known.shape, known.dtype) != (entry.shape, entry.dtype):
                raise ValueError(f"tensor {name} is {known.dtype} {list(known.shape)} to one process and "
                                 f"{entry.dtype} {list(entry.shape)} to another")
            merged[name] = TensorEntry(entry.shape, entry.dtype, (*known.parts, *entry.parts))
    return merged


def digest(data: bytes) -> str:
    """SHA-256 in hex."""
    return sha256(data).hexdigest()


def self_hash(body: Mapping[str, object]) -> str:
    """What a manifest says that it hashes to."""
    return digest(json.dumps(body, sort_keys=True).encode())
