"""Weights and optimizer moments by name, so that a checkpoint does not depend on how an optimizer numbers its parameters."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn


def model_tensors(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights and buffers among a checkpoint's tensors, under the model's own names."""
    return {name.removeprefix("model."): tensor for name, tensor in state.items() if name.startswith("model.")}


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """`optimizer.<slot>.<parameter name>` for every tensor that the optimizer keeps."""
    return {
        f"optimizer.{slot}.{name}": value.detach()
        for name, parameter in model.named_parameters()
        for slot, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Tensor]) -> None:
    """Put the moments back; parameters without saved moments start fresh."""
    parameters = dict(model.named_parameters())
    for key, value in state.items():
        if not key.startswith("optimizer."):
            continue
        slot, name = key.removeprefix("optimizer.").split(".", 1)
        if name not in parameters:
            raise ValueError(f"the checkpoint holds optimizer state of {name}, which this model lacks; resume with the recipe of that run")
        device = "cpu" if slot == "step" and value.ndim == 0 and parameters[name].device.type == "cpu" else parameters[name].device
        optimizer.state[parameters[name]][slot] = value.to(device).clone()
