"""The shared router: every token of every modality chooses among the same experts, by its hidden state alone.

    s = sigmoid(W x);   chosen = top-k of (s + b);   gate = s / sum of the chosen s   (b never enters the gate)

Report: §2.1 (modality-agnostic routing, auxiliary-loss-free balance). Ours: decision 2 (sigmoid, fp32, normalised gates; at k = 1 the
score itself is the gate, because a constant has no gradient).
Letters: T tokens, D width, E experts, K chosen experts.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel


class Routing(NamedTuple):
    """experts `T K` int64, gates `T K` float32."""

    experts: Tensor
    gates: Tensor


class Router(nn.Module):
    """x `T D` -> Routing. `balance_bias` is moved by `RouterBalance`, never by a gradient."""

    balance_bias: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.top_k = config.top_k
        self.routed_scale = config.routed_scale
        self.weight = nn.Parameter(torch.empty(config.num_experts, config.dim))  # E D
        self.register_buffer("balance_bias", torch.zeros(config.num_experts, dtype=torch.float32))

    def forward(self, x: Tensor, submodel: SubModel) -> Routing:
        scores = torch.sigmoid(x.float() @ self.weight.float().T)  # T E
        preference = scores.detach() + self.balance_bias
        if submodel.experts is not None:
            live = torch.zeros_like(self.balance_bias, dtype=torch.bool)
            live[list(submodel.experts)] = True
            preference = preference.masked_fill(~live, -torch.inf)
        top_k = self.top_k if submodel.top_k is None else submodel.top_k
        experts = preference.topk(top_k, dim=-1).indices  # T K
        gates = scores.gather(-1, experts)
        if top_k > 1:
            gates = gates / gates.sum(dim=-1, keepdim=True)
        return Routing(experts, gates * self.routed_scale)
