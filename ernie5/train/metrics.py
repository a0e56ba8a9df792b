"""One JSON object per step, for tools and people; the same numbers go to the progress bar and to wandb.

`step`, `loss/*`, `grad_norm`, `lr`, `tokens` (seen so far), `tokens_per_s`, `router/max_load` (most loaded expert / mean, worst layer),
`elastic/layers` (layers executed), `skipped`, and `sample_ids` on a skipped step. Ours.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.parallel.engine import StepResult


def max_load(load: Tensor) -> float:
    """Load `L E` -> the most loaded expert over the mean of its layer, in the worst layer (1 = perfect balance)."""
    counts = load.to(torch.float64)
    return float((counts.amax(dim=-1) / counts.mean(dim=-1).clamp(min=1e-9)).max())


def step_metrics(
    step: int, losses: Tensor, result: StepResult, lr: float, tokens: int, load: Tensor, num_layers: int
) -> dict[str, float | int | bool]:
    """losses: (total, text, multi_token, vision, audio). The loop, which knows the time, adds `tokens_per_s`."""
    names = ("total", "text", "multi_token", "vision", "audio")
    return {
        "step": step,
        **{f"loss/{name}": value for name, value in zip(names, losses.tolist(), strict=True)},
        "grad_norm": result.grad_norm,
        "lr": lr,
        "tokens": tokens,
        "router/max_load": max_load(load),
        "elastic/layers": num_layers,
        "skipped": result.skipped,
    }
