"""The shared router: every token of every modality chooses among the same experts, by its hidden state alone.

    s = sigmoid(W x);   chosen = top-k of (s + b);   gate = s / sum of the chosen s   (b never enters the gate)

Report: §2.1 (modality-agnostic routing, auxiliary-loss-free balance). Ours: decision 2 (sigmoid, fp32, normalised gates; at k = 1 the
score itself is the gate, because a constant has no gradient). Other routers override `scores` or `reach`.
Letters: T tokens, D width, E experts, K chosen experts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubLayer


class Routing(NamedTuple):
    """What every token chose; a choice with gate 0 does not count."""

    experts: Tensor               # T K  int64
    gates: Tensor                 # T K  float32
    reach: Tensor | None = None   # E or T E  bool: among which experts; None = all
    loss: Tensor | None = None    # a loss of this router, summed over tokens; None = it has none


class Router(nn.Module):
    """x `T D`, kind `T` -> Routing. `balance_bias` is moved by `RouterBalance`, never by a gradient."""

    balance_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.routed_scale = config.routed_scale
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.dim))  # E D
        self.register_buffer("balance_bias", torch.zeros(config.num_experts, dtype=torch.float32))

    def forward(self, x: Tensor, kind: Tensor, sub: SubLayer) -> Routing:
        scores, reach = self.scores(x, kind), self.reach(kind, sub)
        preference = scores.detach() + self.balance_bias
        if reach is not None:
            preference = preference.masked_fill(~reach, -torch.inf)
        experts = preference.topk(self.top_k if sub.top_k is None else sub.top_k, dim=-1).indices  # T K
        return Routing(experts, self.routed_scale * gates(scores.gather(-1, experts), sub.used), reach)

    def scores(self, x: Tensor, kind: Tensor) -> Tensor:
        """How well every expert fits, `T E` float32 in 0 … 1. `kind` is not looked at: routing is modality-agnostic."""
        with torch.autocast(x.device.type, enabled=False):  # a matrix product would be made in bf16 otherwise
            return torch.sigmoid(x.float() @ self.weight.float().T)

    def reach(self, kind: Tensor, sub: SubLayer) -> Tensor | None:
        """The experts that may be chosen, bool `E` or `T E`; None = all."""
        return sub.live


def gates(scores: Tensor, used: Tensor | None) -> Tensor:
    """Scores `T K` of the chosen, best first -> gates that sum to 1. Of a single choice the gate is the score. Beyond `used[t]`: 0."""
    if used is None:
        return scores / scores.sum(dim=-1, keepdim=True) if scores.shape[1] > 1 else scores
    scores = scores * (torch.arange(scores.shape[1], device=scores.device) < used[:, None])
    return torch.where(used[:, None] > 1, scores / scores.sum(dim=-1, keepdim=True), scores)
