"""The mixture of experts over many ranks: our router and our experts, Megatron's token dispatcher between them.

    our positions -> router -> rows travel to the ranks of their experts -> experts -> back -> sum by gate

Every tensor rank takes its share of the positions, so that each (position, layer) is routed on exactly one process. Rows whose gate is 0
travel too: they are few, and a rank without rows stays part of the backward pass (its peers would wait for it forever otherwise).
Report: §5.1. Letters: T positions, t our share, K choices, E experts, D width.
"""

from __future__ import annotations

import torch
from megatron.core.process_groups_config import ProcessGroupCollection
from megatron.core.tensor_parallel import (
    gather_from_sequence_parallel_region,
    reduce_from_tensor_model_parallel_region,
    scatter_to_sequence_parallel_region,
)
from megatron.core.transformer.moe.token_dispatcher import MoEAlltoAllTokenDispatcher
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from ernie5.model.elastic import SubLayer
from ernie5.model.moe import MixtureOfExperts, Routed
from ernie5.model.router import Routing
from ernie5.parallel.megatron.groups import Groups
from ernie5.parallel.megatron.linear import part_of
from ernie5.parallel.megatron.sequence import check_share


class SplitMixture(MixtureOfExperts):
    """x `T D` or our share of it `t D`, kind `T` -> y like x, and what the router did with our share."""

    def __init__(self, plain: MixtureOfExperts, config: TransformerConfig, groups: Groups) -> None:
        nn.Module.__init__(self)
        self.num_experts, self.axis = plain.num_experts, groups.tensor
        for name, part in plain.named_children():
            self.add_module(name, part)
        self.shared = plain.shared
        self.dispatcher: MoEAlltoAllTokenDispatcher | None = None
        if groups.expert.size > 1:
            self.experts.up, self.experts.down = (part_of(w, groups.expert, "expert") for w in (self.experts.up, self.experts.down))
            num_local = self.num_experts // groups.expert.size
            mine = list(range(groups.expert.rank * num_local, (groups.expert.rank + 1) * num_local))
            wanted = ProcessGroupCollection.use_mpu_process_groups(["ep", "expt_tp", "tp_ep"])
            self.dispatcher = MoEAlltoAllTokenDispatcher(num_local, mine, config, wanted)
        for parameter in self.experts.parameters():
            parameter.allreduce = False  # type: ignore[attr-defined]  # gradients are added up over the ranks that hold the same experts

    def forward(self, x: Tensor, kind: Tensor, sub: SubLayer) -> tuple[Tensor, Routed]:
        is_whole = len(x) == len(kind) and self.axis.size > 1
        if is_whole:
            check_share(len(x), self.axis)
            x = scatter_to_sequence_parallel_region(x, self.axis.group)
        share = slice(self.axis.rank * len(x), (self.axis.rank + 1) * len(x))
        y, routed = self.mix(x, kind[share], share_of(sub, share))
        if routed.loss is not None:  # a sum over positions: each rank has those of its share
            routed = routed._replace(loss=reduce_from_tensor_model_parallel_region(routed.loss, self.axis.group))
        if is_whole:
            y = gather_from_sequence_parallel_region(y, tensor_parallel_output_grad=False, group=self.axis.group)
        return y, routed

    def mix(self, x: Tensor, kind: Tensor, sub: SubLayer) -> tuple[Tensor, Routed]:
        """Our share alone: as on one process, or with rows that travel."""
        if self.dispatcher is None:
            return super().forward(x, kind, sub)
        routing: Routing = self.router(x, kind, sub)
        y = self.dispatched(x, routing, self.dispatcher)
        if self.shared is not None:
            y = y + self.shared(x, torch.tensor([len(x)], device=x.device))
        return y, self.routed(routing, kind)

    def dispatched(self, x: Tensor, routing: Routing, dispatcher: MoEAlltoAllTokenDispatcher) -> Tensor:
        dense = routing.gates.new_zeros(len(x), self.num_experts)
        gates = dense.scatter(1, routing.experts, routing.gates)                                  # t E
        chosen = torch.zeros_like(dense, dtype=torch.bool).scatter(1, routing.experts, True)      # t E
        rows, row_gates = dispatcher.token_dispatch(*dispatcher.dispatch_preprocess(x, chosen, gates))
        rows, counts, row_gates = dispatcher.dispatch_postprocess(rows, row_gates)
        outputs = self.experts(rows, counts.to(x.device))
        outputs = outputs * row_gates.to(outputs.dtype).unsqueeze(-1)
        return dispatcher.combine_postprocess(dispatcher.token_combine(dispatcher.combine_preprocess(outputs)))


def share_of(sub: SubLayer, share: slice) -> SubLayer:
    """The part of a layer's sub-model that speaks of our positions. `runs` is not looked at by a mixture."""
    live = sub.live[share] if sub.live is not None and sub.live.ndim == 2 else sub.live
    return SubLayer(live, sub.top_k, None if sub.used is None else sub.used[share])
