"""SwiGLU experts over rows that are already sorted by expert: one grouped product, and the plain loop it must equal.

    y_m = W_down[e] ( silu(a) * b ),   a, b = halves of W_up[e] x_m,   e = expert of row m

Report: §2.1 (fine-grained experts), §5.1 (no token is dropped: groups have any size, also zero).
Letters: M rows = T*K, D width, E experts, F expert width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def compute_dtype(x: Tensor) -> torch.dtype:
    """The dtype of matrix products here: autocast does not reach grouped products by itself."""
    device = x.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else x.dtype


class Experts(nn.Module):
    """x `M D` sorted by expert, counts `E` (sum M) -> `M D`; as one grouped matrix product."""

    def __init__(self, dim: int, num_experts: int, expert_dim: int) -> None:
        super().__init__()
        self.up = nn.Parameter(torch.empty(num_experts, dim, 2 * expert_dim))  # E D 2F
        self.down = nn.Parameter(torch.empty(num_experts, expert_dim, dim))    # E F D

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        x = x.to(compute_dtype(x))
        ends = counts.cumsum(0).to(torch.int32)
        gate, value = F.grouped_mm(x, self.up.to(x.dtype), offs=ends).chunk(2, dim=-1)  # M F
        return F.grouped_mm(F.silu(gate) * value, self.down.to(x.dtype), offs=ends)


class LoopExperts(Experts):
    """The readable reference: one expert after the other."""

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        rows = x.to(compute_dtype(x)).split(counts.tolist())
        outputs = []
        for row, up, down in zip(rows, self.up.unbind(0), self.down.unbind(0), strict=True):
            gate, value = (row @ up.to(row.dtype)).chunk(2, dim=-1)
            outputs.append((F.silu(gate) * value) @ down.to(row.dtype))
        return torch.cat(outputs)
