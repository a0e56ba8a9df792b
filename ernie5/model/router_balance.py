"""Auxiliary-loss-free load balance: after every step, the bias of an overloaded expert goes down, of an idle one up.

    error_i = sum over passes that include expert i of (count_i - mean count of the included experts);   b_i <- b_i - u sign(error_i)

Report: §2.1, §3.2 (u = 1e-4, 1e-5 in mid-training). Ours: decision 3 (global counts; an excluded expert is neither pushed nor starved).
Letters: L layers, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.model.elastic import SubModel
from ernie5.model.unified_transformer import UnifiedTransformer


class RouterBalance:
    """Collects the errors of one global step and moves the biases; `error: L E` is what ranks must sum before `step`."""

    def __init__(self, model: UnifiedTransformer, speed: float) -> None:
        moes = [layer.moe for layer in model.layers]
        if model.multi_token is not None:
            moes.append(model.multi_token.layer.moe)
        self.biases: list[Tensor] = [moe.router.get_buffer("balance_bias") for moe in moes]
        self.speed = speed
        self.error = torch.zeros(len(moes), len(self.biases[0]), dtype=torch.float64, device=self.biases[0].device)

    def add(self, load: Tensor, layers: tuple[int, ...], submodel: SubModel) -> None:
        """Counts of one pass: load `executed layers, E` (already summed over kinds)."""
        counts = load.to(torch.float64)
        live = slice(None) if submodel.experts is None else list(submodel.experts)
        rows = torch.tensor(layers, device=self.error.device)
        error = torch.zeros_like(counts)
        error[:, live] = counts[:, live] - counts[:, live].mean(dim=-1, keepdim=True)
        self.error.index_add_(0, rows, error)

    @torch.no_grad()
    def step(self) -> None:
        """Move every bias against the sign of its error, then forget the counts."""
        for bias, error in zip(self.biases, self.error, strict=True):
            bias -= self.speed * error.sign().to(bias.dtype)
        self.error.zero_()
