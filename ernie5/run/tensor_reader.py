"""Reads boxes of tensors out of the files of a checkpoint, whatever boxes they were saved in, touching no more bytes than it must.

    tensor = parts that overlap the wanted box, each copied to its place

Files are opened when first needed and stay open, so that a reader outlives the removal of its folder. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ernie5.run.boxes import Shape, intersection, slices
from ernie5.run.manifest import Manifest, PartEntry
from ernie5.run.tensor_files import open_tensors


class TensorReader:
    """Implements the `Reader` of parallel/shards.py. Nothing is verified here but headers: see `checkpoint.load_checkpoint`."""

    def __init__(self, folder: Path, manifest: Manifest) -> None:
        self.folder, self.manifest, self.keys = folder, manifest, manifest.keys()
        self._open: dict[str, Any] = {}

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: entry.shape for name, entry in self.manifest.tensors.items()}

    def open(self, file: str) -> Any:
        """The file, with its header checked. ValueError where it is not what the manifest says."""
        if file not in self._open:
            self._open[file] = open_tensors(self.folder / file, self.keys[file])
        return self._open[file]

    def read(self, name: str, at: Shape | None = None, shape: Shape | None = None) -> Tensor:
        """The box in memory of its own, on the CPU; without `at` and `shape` the whole tensor. KeyError for an unknown name."""
        entry = self.manifest.tensors[name]
        wanted = ((0,) * len(entry.shape), entry.shape) if at is None or shape is None else (at, shape)
        if any(a < 0 or n < 0 or a + n > size for a, n, size in zip(*wanted, entry.shape, strict=True)):
            raise ValueError(f"{name} has the shape {list(entry.shape)}; there is no box at {list(wanted[0])} of shape {list(wanted[1])}")
        out = torch.empty(wanted[1], dtype=getattr(torch, entry.dtype))
        for part in entry.parts:
            shared = intersection(part.box, wanted)
            if shared is not None:
                out[slices(shared, wanted[0])] = self._slice(part, slices(shared, part.at))
        return out

    def _slice(self, part: PartEntry, index: tuple[slice, ...]) -> Tensor:
        opened = self.open(part.file)
        return opened.get_slice(part.key)[index] if index else opened.get_tensor(part.key)
