"""The state of an engine that holds whole tensors: weights and optimizer moments by name, not by an optimizer's numbering."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from ernie5.parallel.shards import Reader, Shard


def model_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights and buffers among a checkpoint's tensors, under the model's own names."""
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


def whole_shards(model: nn.Module, optimizer: torch.optim.Optimizer) -> Iterator[Shard]:
    """`model.<name>` of every weight and buffer, `optimizer.<slot>.<name>` of every tensor that the optimizer keeps."""
    for name, tensor in model.state_dict().items():
        yield Shard.whole(f"model.{name}", tensor.detach())
    for name, parameter in model.named_parameters():
        for slot, value in optimizer.state.get(parameter, {}).items():
            yield Shard.whole(f"optimizer.{slot}.{name}", value.detach())


def load_whole(model: nn.Module, optimizer: torch.optim.Optimizer, reader: Reader) -> None:
    """Put weights and moments back; parameters without saved moments start fresh."""
    model.load_state_dict({name.removeprefix("model."): reader.read(name) for name in reader.shapes if name.startswith("model.")})
    parameters = dict(model.named_parameters())
    for key in reader.shapes:
        if not key.startswith("optimizer."):
            continue
        slot, name = key.removeprefix("optimizer.").split(".", 1)
        if name not in parameters:
            raise ValueError(f"the checkpoint holds optimizer state of {name}, which this model lacks; resume with the recipe of that run")
        value = reader.read(key)
        device = "cpu" if slot == "step" and value.ndim == 0 and parameters[name].device.type == "cpu" else parameters[name].device
        optimizer.state[parameters[name]][slot] = value.to(device).clone()
