"""What keeps only its inputs and runs again in the backward pass (torch.utils.checkpoint, not re-entrant).

Only the first run's outputs are seen, so routers' counts are counted once; autocast and random numbers are as in the first run.
Report: §5.1 (recompute).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint


def again(run: Callable[..., Any], *inputs: Any) -> Any:
    """`run(*inputs)`; without gradients (evaluation, generation) there is nothing to run it for again."""
    return checkpoint(run, *inputs, use_reentrant=False) if torch.is_grad_enabled() else run(*inputs)


class Recomputed(nn.Module):
    """In front of a layer or of experts."""

    def forward(self, *inputs: Any) -> Any:
        return again(super().forward, *inputs)
