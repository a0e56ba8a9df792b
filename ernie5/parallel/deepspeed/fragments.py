"""Which stretch of every parameter this rank keeps in DeepSpeed's flat optimizer partitions, and what is done with it.

    parameter, flattened:   . . . [start, start + n) . . .      lies at  [at, at + n)  of `flat`, the tensor that the optimizer steps

Moments are flat tensors of the same layout. With the stretches, rows that a step has not touched are put back, and saved moments
find their place. Ours: decision 30.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ernie5.parallel.parts import Parts


@dataclass(frozen=True)
class Fragment:
    """`n` elements of a flattened parameter from `start` on; in `flat` they begin at `at`."""

    name: str
    flat: Tensor
    at: int
    start: int
    n: int

    def of(self, flat: Tensor) -> Tensor:
        """The same stretch of a tensor that is laid out like `flat`."""
        return flat.narrow(0, self.at, self.n)

    def put(self, flat: Tensor, whole: Tensor) -> None:
        """Our stretch of a whole tensor into one that is laid out like `flat`."""
        self.of(flat).copy_(whole.flatten()[self.start : self.start + self.n])

    def rows(self, rows: list[int], row_size: int) -> Tensor:
        """Where in `flat` the elements of these rows of the parameter lie, as far as we keep them."""
        whole = torch.cat([torch.arange(row * row_size, (row + 1) * row_size) for row in rows])
        mine = whole[(whole >= self.start) & (whole < self.start + self.n)]
        return mine - self.start + self.at


def fragments(model: nn.Module, optimizer: Any, zero: int, rank: int, parts: Parts) -> Iterator[Fragment]:
    """Of ZeRO 1 and 2 (parameters end to end, cut among ranks) or 3 (every parameter cut among ranks)."""
    for name, parameter in model.named_parameters():
        if zero < 3:
            mapping = getattr(parameter, "_hp_mapping")  # noqa: B009  (DeepSpeed puts it there)
            if mapping is not None:
                flat = optimizer.single_partition_of_fp32_groups[mapping.param_group_index]
                yield Fragment(name, flat, mapping.hp_fragment_address.start, mapping.lp_fragment_address.start,
                               mapping.lp_fragment_address.numel)
        else:
            group, at, size = optimizer.grad_position[optimizer.get_param_id(parameter)]
            start = rank * size
            n = max(0, min(size, torch.Size(parts[name].shape).numel() - start))  # the last ranks' parts may be padding
            if n:
                yield Fragment(name, optimizer.fp32_partitioned_groups_flat[group], at, start, n)
