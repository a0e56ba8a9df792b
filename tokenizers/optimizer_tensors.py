"""The state of torch's optimizers as named tensors, so that a tokenizer's training can be saved without pickle and resumed exactly."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor


def optimizer_tensors(optimizer: torch.optim.Optimizer, prefix: str) -> dict[str, Tensor]:
    """`PREFIX.PARAMETER.STATE` -> tensor; parameters are numbered in the optimizer's order. Empty before the first step."""
    return {
        f"{prefix}.{i}.{name}": value
        for i, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], prefix: str) -> None:
    """What `optimizer_tensors` gave; state that it did not hold is forgotten."""
    for i, parameter in enumerate(_parameters(optimizer)):
        start = f"{prefix}.{i}."
        state = {name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)}
        optimizer.state.pop(parameter, None)
        if state:  # counters stay where the optimizer makes them: on the CPU
            optimizer.state[parameter] = {k: v.clone() if v.ndim == 0 else v.to(parameter, copy=True) for k, v in state.items()}


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]
