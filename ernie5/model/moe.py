"""The mixture of experts of one layer: route, sort by expert, run the experts, undo the sort, sum by gate.

    y_t = sum over the chosen e of  gate_te * expert_e(x_t)   (+ shared experts, if any)

Dropless: the rows of an expert are as many as chose it. Report: §2.1, §5.1.
Letters: T tokens, K chosen experts, M = T*K rows, D width, E experts, R kinds of positions.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel
from ernie5.model.experts import Experts, LoopExperts
from ernie5.run.parts import load_part
from ernie5.sequence import Kind


class MixtureOfExperts(nn.Module):
    """x `T D`, kind `T` -> y `T D` and load `R E`: how many positions of each kind chose each expert (padding not counted)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.num_experts = config.num_experts
        self.router = load_part(config.router)(config)
        make_experts = Experts if config.experts == "grouped" else LoopExperts
        self.experts = make_experts(config.dim, config.num_experts, config.expert_dim)
        self.shared = make_experts(config.dim, 1, config.num_shared_experts * config.expert_dim) if config.num_shared_experts else None

    def forward(self, x: Tensor, kind: Tensor, submodel: SubModel) -> tuple[Tensor, Tensor]:
        routing = self.router(x, submodel)
        chosen = routing.experts.flatten()                               # M
        order = chosen.argsort(stable=True)
        rows = x.index_select(0, order // routing.experts.shape[1])      # M D
        outputs = self.experts(rows, torch.bincount(chosen, minlength=self.num_experts))
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        by_token = outputs.index_select(0, place).unflatten(0, routing.experts.shape)  # T K D
        y = (by_token * routing.gates.to(by_token.dtype).unsqueeze(-1)).sum(dim=1)
        if self.shared is not None:
            y = y + self.shared(x, torch.tensor([len(x)], device=x.device))
        return y, self.load(routing.experts, kind)

    @torch.no_grad()
    def load(self, experts: Tensor, kind: Tensor) -> Tensor:
        """Count (kind, expert) pairs; kind -1 (padding) falls into a bin that is cut off."""
        cell = torch.where(kind >= 0, kind, len(Kind)).unsqueeze(-1) * self.num_experts + experts  # T K
        counts = torch.bincount(cell.flatten(), minlength=(len(Kind) + 1) * self.num_experts)
        return counts.unflatten(0, (-1, self.num_experts))[: len(Kind)]
