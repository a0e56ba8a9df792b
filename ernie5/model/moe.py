"""The mixture of experts of one layer: route, sort by expert, run the experts, undo the sort, sum by gate.

    y_t = sum over the chosen e of  gate_te * expert_e(x_t)   (+ shared experts, if any)

Dropless: the rows of an expert are as many as chose it. Report: §2.1, §5.1.
Letters: T tokens, K chosen experts, M = T*K rows, D width, E experts, R kinds of positions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubLayer
from ernie5.model.experts import Experts, LoopExperts
from ernie5.model.router import Routing
from ernie5.run.parts import load_part
from ernie5.sequence import Kind


class Routed(NamedTuple):
    """What a router did in one pass; padding is not counted."""

    load: Tensor           # R E  how many positions of each kind chose each expert
    even: Tensor           # E    how many would have, were all choices spread evenly over the experts within reach
    loss: Tensor | None    #      the router's own loss, summed over tokens


class MixtureOfExperts(nn.Module):
    """x `T D`, kind `T` -> y `T D` and what the router did."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.router = load_part(config.router)(config)
        make_experts = Experts if config.experts == "grouped" else LoopExperts
        self.experts = make_experts(config.dim, config.num_experts, config.expert_dim)
        self.shared = make_experts(config.dim, 1, config.num_shared_experts * config.expert_dim) if config.num_shared_experts else None

    def forward(self, x: Tensor, kind: Tensor, sub: SubLayer) -> tuple[Tensor, Routed]:
        routing: Routing = self.router(x, kind, sub)
        chosen = routing.experts.flatten()                               # M
        order = chosen.argsort(stable=True)
        rows = x.index_select(0, order // routing.experts.shape[1])      # M D
        outputs = self.experts(rows, torch.bincount(chosen, minlength=self.num_experts))
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        by_token = outputs.index_select(0, place).unflatten(0, routing.experts.shape)  # T K D
        y = (by_token * routing.gates.to(by_token.dtype).unsqueeze(-1)).sum(dim=1)
        if self.shared is not None:
            y = y + self.shared(x, torch.tensor([len(x)], device=x.device))
        return y, self.routed(routing, kind)

    @torch.no_grad()
    def routed(self, routing: Routing, kind: Tensor) -> Routed:
        """Counts of one pass; what does not count (padding, a gate of 0) falls into a bin that is cut off."""
        counts = (routing.gates > 0) & (kind >= 0).unsqueeze(-1)                                               # T K
        cell = torch.where(counts, kind.unsqueeze(-1), len(Kind)) * self.num_experts + routing.experts
        load = torch.bincount(cell.flatten(), minlength=(len(Kind) + 1) * self.num_experts).unflatten(0, (-1, self.num_experts))
        choices = counts.sum(dim=-1).double()                                                                  # T
        reach = torch.ones(1, self.num_experts, device=kind.device) if routing.reach is None else routing.reach
        reach = reach.double().view(-1, self.num_experts)                                                      # 1 E or T E
        shares = choices / reach.sum(dim=-1)                                                                   # T
        even = shares.sum() * reach[0] if len(reach) == 1 else shares @ reach                                  # E
        return Routed(load[: len(Kind)], even, routing.loss)
