"""What one process puts into a checkpoint: boxes of tensors that were looked through, or the reason why they must not be saved.

A `Snapshot` copies them into memory of its own, so that training may go on while they are written; it keeps that memory, because fresh
pages cost ten times the copy (measured). Ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from ernie5.run.boxes import Shape
from ernie5.run.tensor_files import check_tensor

FILE_BYTES = 2**30


class Part(Protocol):
    """`data` begins at `at` in the whole tensor `name` of `shape`."""

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> Shape: ...

    @property
    def at(self) -> Shape: ...

    @property
    def data(self) -> Tensor: ...


@dataclass(frozen=True)
class Piece:
    """A `Part`."""

    name: str
    shape: Shape
    at: Shape
    data: Tensor


@dataclass(frozen=True)
class Content:
    """Parts that may be saved; with a `failure` there are none, and the save must fail."""

    parts: tuple[Part, ...] = ()
    failure: str = ""


def whole(tensors: Mapping[str, Tensor]) -> Iterable[Part]:
    """Tensors that this process holds alone."""
    for name, tensor in tensors.items():
        yield Piece(name, tuple(getattr(tensor, "shape", ())), (0,) * getattr(tensor, "ndim", 0), tensor)


def look_through(parts: Iterable[Part]) -> Content:
    """The parts, unless one is not dense or holds inf or nan. Empty parts of tensors that have elements are left out."""
    kept: list[Part] = []
    failure = ""
    for part in parts:  # to the end in any case: handing out parts may be a collective
        if failure:
            continue
        try:
            check_tensor(part.name, part.data)
        except ValueError as error:
            failure = str(error)
        else:
            if part.data.numel() or not math.prod(part.shape):
                kept.append(part)
    return Content(failure=failure) if failure else Content(tuple(kept))


def split(parts: Iterable[Part], file_bytes: int = FILE_BYTES) -> Iterator[list[Part]]:
    """The parts in their order, cut into groups of at most `file_bytes` (one bigger part is a group of its own)."""
    group: list[Part] = []
    size = 0
    for part in parts:
        if group and size + part.data.nbytes > file_bytes:
            yield group
            group, size = [], 0
        group.append(part)
        size += part.data.nbytes
    if group:
        yield group


class Snapshot:
    """Copies of parts on the CPU, in the same memory every time. Only one may be in use."""

    def __init__(self) -> None:
        self._memory: dict[tuple[str, Shape], Tensor] = {}

    def take(self, parts: Iterable[Part]) -> tuple[Part, ...]:
        """Copies of the parts; what happens to their tensors afterwards does not matter. Dense tensors only."""
        copies = tuple(Piece(part.name, part.shape, part.at, self._copy(part)) for part in parts)
        used = {(part.name, part.at) for part in copies}
        self._memory = {key: memory for key, memory in self._memory.items() if key in used}
        return copies

    def _copy(self, part: Part) -> Tensor:
        memory = self._memory.get((part.name, part.at))
        if memory is None or memory.shape != part.data.shape or memory.dtype != part.data.dtype:
            memory = self._memory[part.name, part.at] = torch.empty(part.data.shape, dtype=part.data.dtype)
        return memory.copy_(part.data.detach())
