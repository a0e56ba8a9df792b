"""What part of every tensor this process holds, and how such parts leave and enter it.

    Part(shape=(64, 512, 256), at=(32, 0, 0), first=True):  our rows 32… of 64, and we are the one who hands them out

`first` is true on one of the processes that hold the same part. Local tensors may be DTensors of FSDP: their own slice lies inside. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

from ernie5.parallel.shards import Reader, Shape, Shard


class Part(NamedTuple):
    """A box of a tensor: the whole tensor's `shape`, where our part begins, and whether we hand it out."""

    shape: Shape
    at: Shape
    first: bool


Parts = Mapping[str, Part]


def whole_parts(model: nn.Module, first: bool) -> dict[str, Part]:
    """Every weight and buffer in one piece."""
    return {name: Part(tuple(x.shape), (0,) * x.ndim, first) for name, x in model.state_dict().items()}


def local(x: Tensor) -> Tensor:
    """The memory of this process; writing to it writes to the tensor."""
    return x.to_local() if isinstance(x, DTensor) else x


def shards_of(model: nn.Module, optimizer: torch.optim.Optimizer, parts: Parts) -> Iterator[Shard]:
    """`model.<name>` of every weight and buffer, `optimizer.<slot>.<name>` of every tensor that the optimizer keeps."""
    for name, tensor in model.state_dict().items():
        if parts[name].first:
            yield Shard(f"model.{name}", parts[name].shape, parts[name].at, local(tensor.detach()))
    for name, parameter in model.named_parameters():
        shape, at, first = parts[name]
        for slot, value in optimizer.state.get(parameter, {}).items():
            if value.ndim and first:
                yield Shard(f"optimizer.{slot}.{name}", shape, at, local(value.detach()))
            elif first and not any(at):  # a count, the same for all parts
                yield Shard.whole(f"optimizer.{slot}.{name}", value.detach())


def load_parts(model: nn.Module, optimizer: torch.optim.Optimizer, parts: Parts, reader: Reader) -> None:
    """Put weights and moments back; parameters without saved moments start fresh. ValueError before anything is changed when a weight is
    missing, has another shape, or is not one of this model's.
    """
    check_names(parts, reader)
    with torch.no_grad():
        for name, tensor in model.state_dict().items():
            mine = local(tensor)
            mine.copy_(reader.read(f"model.{name}", parts[name].at, tuple(mine.shape)))
        parameters = dict(model.named_parameters())
        optimizer.state.clear()
        for key in reader.shapes:
            if key.startswith("optimizer."):
                slot, name = key.removeprefix("optimizer.").split(".", 1)
                if name in parameters:
                    optimizer.state[parameters[name]][slot] = _moment(parameters[name], parts[name], slot, key, reader)


def check_names(parts: Parts, reader: Reader) -> None:
    """ValueError when the model's tensors are not those of the reader."""
    saved = {name.removeprefix("model."): shape for name, shape in reader.shapes.items() if name.startswith("model.")}
    different = sorted(name for name in parts if saved.get(name) != parts[name].shape)
    if different:
        name = different[0]
        held = "lacks it" if name not in saved else f"holds {saved[name]}"
        raise ValueError(f"{name} has the shape {parts[name].shape} in this model and the checkpoint {held}; "
                         "resume with the recipe of that run")
    moments = {key.removeprefix("optimizer.").split(".", 1)[1] for key in reader.shapes if key.startswith("optimizer.")}
    strange = sorted((saved.keys() | moments) - parts.keys())
    if strange:
        raise ValueError(f"the checkpoint holds {strange[0]}, which this model lacks; resume with the recipe of that run")


def _moment(parameter: Tensor, part: Part, slot: str, key: str, reader: Reader) -> Tensor:
    if not reader.shapes[key]:
        device = "cpu" if slot == "step" and local(parameter).device.type == "cpu" else local(parameter).device
        return reader.read(key).to(device).clone()
    moment = torch.zeros_like(parameter, memory_format=torch.preserve_format).detach()
    local(moment).copy_(reader.read(key, part.at, tuple(local(parameter).shape)))
    return moment


def sliced(part: Part, tensor: Tensor) -> Part:
    """The part of a part that FSDP leaves to this process (rows); buffers are not sliced."""
    if not isinstance(tensor, DTensor):
        return part
    _, offset = compute_local_shape_and_global_offset(tensor.shape, tensor.device_mesh, tensor.placements)
    return Part(part.shape, tuple(a + o for a, o in zip(part.at, offset, strict=True)), first=True)
