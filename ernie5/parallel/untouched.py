"""What a step has not trained stays as it was: weights and moments of layers and experts that no sub-model of the step ran.

A gradient of zero is not enough: Adam moves on by its momentum and decays the weight. A layer that did not run has no gradient and is
passed over by the optimizer; rows of experts that were left out are put back after its step. A process that holds only some of the rows
puts back those among them. Ours: decision 30. Letters: E experts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ernie5.model.elastic import Touched, has_row_per_expert
from ernie5.parallel.parts import Parts, local
from ernie5.parallel.shards import Shape

LAYER = re.compile(r"layers\.(\d+)\.(.*)|multi_token\.(?:layer\.)?(.*)")


def untouched_rows(name: str, shape: Shape, touched: Touched) -> list[int] | None:
    """The rows of a parameter, `shape` as in the whole model, that the step left out; None = all of them."""
    match = LAYER.fullmatch(name)
    if match is None:
        return []
    live = touched.experts[int(match[1])] if match[1] is not None else touched.experts[-1]
    if not live:
        return None
    by_expert = has_row_per_expert(match[2] or match[3], shape, touched.num_experts)
    return sorted(set(range(touched.num_experts)) - live) if by_expert else []


@contextmanager
def as_before(model: nn.Module, optimizer: torch.optim.Optimizer, touched: Touched | None, parts: Parts) -> Iterator[None]:
    """Inside, the optimizer steps; afterwards what was not touched is bit for bit as before."""
    kept: list[tuple[Tensor, Tensor, Tensor]] = []  # tensor, rows, their values
    if touched is not None:
        for name, parameter in model.named_parameters():
            shape, at, _ = parts[name]
            left_out = untouched_rows(name, shape, touched)
            if left_out is None:
                parameter.grad = None
            elif left_out:
                mine = local(parameter)
                ours = [row - at[0] for row in left_out if at[0] <= row < at[0] + mine.shape[0]]
                rows = torch.tensor(ours, device=mine.device, dtype=torch.int64)
                for tensor in (mine, *map(local, optimizer.state.get(parameter, {}).values())):
                    if tensor.shape == mine.shape:
                        at_rows = rows.to(tensor.device)  # moments may be in host memory
                        kept.append((tensor, at_rows, tensor.detach().index_select(0, at_rows)))
    yield
    with torch.no_grad():
        for tensor, rows, values in kept:
            tensor.index_copy_(0, rows, values)
