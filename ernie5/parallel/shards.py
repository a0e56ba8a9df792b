"""Which part of which tensor a process holds, in the names and shapes that the model has on one process.

    Shard("model.layers.3.moe.experts.up", shape=(64, 512, 256), at=(32, 0, 0), data=<32 512 256>)

Whatever the plan: the shards of all processes together hold every element of every tensor exactly once, so that a checkpoint of one plan
can be read under any other. Names: `model.NAME` (weights and buffers) and `optimizer.SLOT.NAME` (moments, step counts). Ours.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ernie5.run.boxes import Shape, slices


@dataclass(frozen=True)
class Shard:
    """A box of a tensor: `data` begins at `at` in the whole tensor of `shape`."""

    name: str
    shape: Shape
    at: Shape
    data: Tensor

    @classmethod
    def whole(cls, name: str, data: Tensor) -> "Shard":
        """A tensor that one process holds alone."""
        return cls(name, tuple(data.shape), (0,) * data.ndim, data)


class Reader(Protocol):
    """What a state is read from: a checkpoint on disk, or tensors in memory."""

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of the whole tensor, of everything that there is."""

    def read(self, name: str, at: Shape | None = None, shape: Shape | None = None) -> Tensor:
        """The box of `shape` that begins at `at`, on the CPU; without them the whole tensor. KeyError for an unknown name."""


class InMemory:
    """A `Reader` of whole tensors by name."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: tuple(tensor.shape) for name, tensor in self.tensors.items()}

    def read(self, name: str, at: Shape | None = None, shape: Shape | None = None) -> Tensor:
        whole = self.tensors[name]
        return whole if at is None or shape is None else whole[slices((at, shape), (0,) * whole.ndim)]


class WeightsOnly:
    """A `Reader` of the model's tensors of another one."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    @property
    def shapes(self) -> Mapping[str, Shape]:
        return {name: shape for name, shape in self.reader.shapes.items() if name.startswith("model.")}

    def read(self, name: str, at: Shape | None = None, shape: Shape | None = None) -> Tensor:
        return self.reader.read(name, at, shape)


def model_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights and buffers among a checkpoint's tensors, under the model's own names."""
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


def assemble(shards: Iterable[Shard]) -> dict[str, Tensor]:
    """Whole tensors from the shards of all processes. ValueError where an element is missing, doubled, or shapes disagree."""
    whole: dict[str, Tensor] = {}
    filled: dict[str, int] = {}
    for shard in shards:
        box = slices((shard.at, tuple(shard.data.shape)), (0,) * len(shard.shape))
        if shard.name not in whole:
            whole[shard.name], filled[shard.name] = shard.data.new_zeros(shard.shape), 0
        if tuple(whole[shard.name].shape) != shard.shape or tuple(whole[shard.name][box].shape) != tuple(shard.data.shape):
            raise ValueError(f"the parts of {shard.name} do not fit together: {tuple(whole[shard.name].shape)} and {shard.shape}")
        whole[shard.name][box] = shard.data
        filled[shard.name] += shard.data.numel()
    for name, tensor in whole.items():
        if filled[name] != tensor.numel():
            raise ValueError(f"the parts of {name} hold {filled[name]} elements of {tensor.numel()}; each must be there exactly once")
    return whole
