"""What a Megatron engine hands out and takes back: weights and buffers of its chunks, moments of what it holds, in boxes of whole tensors.
Each process writes its own part and reads its own part; nothing is gathered. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ernie5.parallel.megatron.held import Held
from ernie5.parallel.megatron.place import Place
from ernie5.parallel.shards import Reader, Shape, Shard


@dataclass(frozen=True)
class MegatronState:
    """`tensors`: weights and buffers of this process by their name on one process, and where they lie; `parts`: the modules that they are
    of. `names`: all tensors of the whole model.
    """

    tensors: dict[str, tuple[Tensor, Place]]
    parts: Sequence[nn.Module]
    held: Sequence[Held]
    names: frozenset[str]

    def shards(self) -> Iterator[Shard]:
        for name, (tensor, place) in self.tensors.items():
            if place.hands_out:
                yield Shard(f"model.{name}", place.shape, place.at, tensor.detach())
        for held in self.held:
            yield from held.shards()

    @torch.no_grad()
    def load(self, reader: Reader) -> None:
        """ValueError before anything moves when the checkpoint is of another model; parameters without saved moments start fresh."""
        check_names({name: place.shape for name, (_, place) in self.tensors.items()}, self.names, reader)
        for name, (tensor, place) in self.tensors.items():
            tensor.copy_(reader.read(f"model.{name}", place.at, place.ours))
        for part in self.parts:
            part.load_state_dict(part.state_dict())  # modules that check what they are given get their say
        slots: dict[str, list[str]] = {}
        for key in reader.shapes:
            if key.startswith("optimizer."):
                slot, name = key.removeprefix("optimizer.").split(".", 1)
                slots.setdefault(name, []).append(slot)
        for held in self.held:
            held.optimizer.state.pop(held.parameter, None)
            for slot in slots.get(held.name, []):
                held.load(reader, slot)


def check_names(ours: dict[str, Shape], names: frozenset[str], reader: Reader) -> None:
    """`ours` must be there in their shapes; nothing may be there that is not among the `names` of the whole model."""
    for name, shape in ours.items():
        found = reader.shapes.get(f"model.{name}")
        if found != shape:
            held = "lacks it" if found is None else f"holds {found}"
            raise ValueError(f"{name} has the shape {shape} in this model and the checkpoint {held}; resume with the recipe of that run")
    for key in reader.shapes:
        parts = key.split(".", 2 if key.startswith("optimizer.") else 1)
        if parts[0] in ("model", "optimizer") and parts[-1] not in names:
            raise ValueError(f"the checkpoint holds {key}, which this model lacks; resume with the recipe of that run")
