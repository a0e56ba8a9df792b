"""Balance by an auxiliary loss, the alternative to the loss-free biases: the routing gradient is mixed with one towards even use.

    loss of one layer = E * sum_e f_e P_e     f_e = share of all choices that fell on e (no gradient);  P_e = mean of s_e / sum of s
                                              1 when even, E when all choices and all scores fall on one expert

`model.router: ernie5.model.router_auxiliary:AuxiliaryLossRouter` with `train.balance_speed: 0`; its weight is `train.loss_weights.router`.
f and P are those of one pass of one micro-batch, as everywhere in the field: unlike all other losses this one depends on how a step is
cut. (`balance_speed: 0` with the plain router is no balance at all.)
Source: GShard (arXiv 2006.16668), Switch Transformer (arXiv 2101.03961, weight 0.01). Letters: T tokens, K choices, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.model.elastic import SubLayer
from ernie5.model.router import Router, Routing


class AuxiliaryLossRouter(Router):
    """The plain router, and in `Routing.loss` its balance loss times the number of tokens."""

    def forward(self, x: Tensor, kind: Tensor, sub: SubLayer) -> Routing:
        routing = super().forward(x, kind, sub)
        return routing._replace(loss=balance_loss(self.scores(x, kind), routing, kind))


def balance_loss(scores: Tensor, routing: Routing, kind: Tensor) -> Tensor:
    """scores `T E`, kind `T` -> scalar, summed over tokens. Padding and choices with gate 0 do not count; E and P are over the experts
    within reach of each token.
    """
    scores = scores.float()  # also in bf16 runs
    num_experts, real = scores.shape[-1], kind >= 0
    counts = (routing.gates.detach() > 0) & real.unsqueeze(-1)                                                    # T K
    chosen = torch.where(counts, routing.experts, num_experts).flatten()
    load = torch.bincount(chosen, minlength=num_experts + 1)[:num_experts].to(scores.dtype)                       # E
    f = load / load.sum().clamp(min=1)
    reach = torch.ones_like(scores[:1]) if routing.reach is None else routing.reach.to(scores.dtype).view(-1, num_experts)
    within = scores * reach
    p = within / within.sum(dim=-1, keepdim=True)                                                                 # T E
    return (reach.sum(dim=-1) * (p * f).sum(dim=-1))[real].sum()
