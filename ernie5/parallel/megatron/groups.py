"""Megatron's process groups for a plan: who holds the same rows, the same weights, the same experts.

    tensor     the same rows, parts of weights            data (with context)   the same weights, other rows
    pipeline   the same rows, other layers                context               the same weights, other positions of the same rows
    expert     all experts together (across data, context and tensor ranks)     expert data   the same experts

Experts are never cut (fine-grained ones are small), so tensor ranks are expert data ranks unless they hold other experts. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch.distributed as dist
from megatron.core import parallel_state

from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.world import World


@dataclass(frozen=True)
class Axis:
    """One axis of the plan: our place on it, and the group of those who differ from us in that place alone."""

    rank: int
    size: int
    group: dist.ProcessGroup

    @classmethod
    def of(cls, group: dist.ProcessGroup) -> "Axis":
        return cls(group.rank(), group.size(), group)

    def rounded_up(self, num: int) -> int:
        """The next multiple of our size."""
        return -(-num // self.size) * self.size

    def share_of(self, num: int) -> range:
        """Which of `num` rows are ours: equal shares, fewer for the last ranks where `num` is no multiple."""
        share = self.rounded_up(num) // self.size
        return range(min(num, self.rank * share), min(num, (self.rank + 1) * share))


@dataclass(frozen=True)
class Groups:
    """`data`: other rows; `replicas`: data and context ranks, who hold the same dense weights; `same_experts` likewise for experts;
    `ends`: the first and the last stage of our pipeline, for those who are one of them.
    """

    tensor: Axis
    pipeline: Axis
    context: Axis
    ends: Axis | None
    data: Axis
    replicas: Axis
    expert: Axis
    same_experts: Axis

    @classmethod
    def form(cls, plan: ParallelPlan, world: World) -> "Groups":
        """Collective. Groups of an engine that was built before are dropped."""
        check(plan)
        if not dist.is_initialized():  # one process that nobody launched: groups of one
            dist.init_process_group("nccl" if world.device.type == "cuda" else "gloo", store=dist.HashStore(), rank=0, world_size=1)
        parallel_state.destroy_model_parallel()
        parallel_state.initialize_model_parallel(
            plan.tensor, plan.pipeline, plan.virtual_pipeline if plan.virtual_pipeline > 1 else None, context_parallel_size=plan.context,
            expert_model_parallel_size=plan.expert, expert_tensor_parallel_size=1, create_gloo_process_groups=False)
        ends = parallel_state.get_embedding_group(check_initialized=False)
        return cls(
            Axis.of(parallel_state.get_tensor_model_parallel_group()), Axis.of(parallel_state.get_pipeline_model_parallel_group()),
            Axis.of(parallel_state.get_context_parallel_group()), None if ends is None else Axis.of(ends),
            Axis.of(parallel_state.get_data_parallel_group()),
            Axis.of(parallel_state.get_data_parallel_group(with_context_parallel=True)),
            Axis.of(parallel_state.get_expert_model_parallel_group()), Axis.of(parallel_state.get_expert_data_parallel_group()))


def check(plan: ParallelPlan) -> None:
    """What this engine cannot do, by name."""
    if plan.expert_tensor != 1:
        raise ValueError(f"parallel.expert_tensor = {plan.expert_tensor}: experts are fine-grained and are not cut; use 1, and more "
                         "parallel.expert")
    if plan.zero > 1:
        raise ValueError(f"parallel.zero = {plan.zero}: the megatron engine shares the optimizer state alone; use parallel.zero = 0 or 1")
    if plan.sequence and plan.tensor == 1:
        raise ValueError("parallel.sequence = true shares positions among tensor ranks, and parallel.tensor = 1; use parallel.tensor >= 2 "
                         "or parallel.sequence = false")
