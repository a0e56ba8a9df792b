"""One JSON object per step, for tools and people; the same numbers go to the progress bar and to wandb.

`step`, `loss/*`, `grad_norm`, `lr`, `tokens` (seen so far), `tokens_per_s`, `router/max_load` (most loaded expert / mean, worst layer),
`router/dead` and `router/overloaded` (experts), `elastic/layers`, `elastic/experts`, `elastic/top_k` (means over the sub-models of the
step), `data/SOURCE` and `data/INPUT->OUTPUT` (samples drawn so far), `bits` (of a vision token, where `train.bits` is set), `skipped`, and
`sample_ids` on a skipped step. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel
from ernie5.parallel.engine import StepResult


def max_load(load: Tensor) -> float:
    """Load `L E` -> the most loaded expert over the mean of its layer, in the worst layer (1 = perfect balance)."""
    counts = load.to(torch.float64)
    return float((counts.amax(dim=-1) / counts.mean(dim=-1).clamp(min=1e-9)).max())


def elastic_metrics(submodels: Sequence[SubModel], config: ModelConfig) -> dict[str, float]:
    """Layers, experts per layer and experts per token, averaged over the sub-models of a step."""
    sizes = torch.tensor([s.size(config) for s in submodels], dtype=torch.float64).mean(dim=0).tolist()
    return dict(zip(("elastic/layers", "elastic/experts", "elastic/top_k"), sizes, strict=True))


def step_metrics(step: int, losses: Tensor, result: StepResult, lr: float, tokens: int, load: Tensor) -> dict[str, float | int | bool]:
    """losses: (total, text, multi_token, vision, audio). The loop, which knows the time, adds `tokens_per_s`."""
    names = ("total", "text", "multi_token", "vision", "audio")
    return {
        "step": step,
        **{f"loss/{name}": value for name, value in zip(names, losses.tolist(), strict=True)},
        "grad_norm": result.grad_norm,
        "lr": lr,
        "tokens": tokens,
        "router/max_load": max_load(load),
        "skipped": result.skipped,
    }
