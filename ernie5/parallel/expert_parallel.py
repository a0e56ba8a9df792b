"""Expert parallelism of the torch engine: every rank keeps some experts, rows travel to the rank of their expert and back.

    rows sorted by expert -> all-to-all -> rows of our experts from all ranks, sorted again -> experts -> the same way back

Only `moe.experts` gets `ExpertParallel` in front of it; router, gates and sums stay where they are. Ranks of a group hold different rows
and all experts together; ranks with the same experts in other groups add up their gradients.
Report: §5.1. Letters: P ranks of a group, E experts, M rows sorted by expert, N rows received, D width.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed._functional_collectives import all_to_all_single_autograd

from ernie5.model.experts import Experts
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.in_front import in_front
from ernie5.parallel.parts import Part
from ernie5.parallel.shards import Shape
from ernie5.parallel.world import World


class ExpertGroups:
    """`shared`: ranks that hold all experts together, `degree` of them in a row. `same`: ranks that hold the same experts."""

    def __init__(self, world: World, degree: int) -> None:
        self.degree, self.index = degree, world.rank % degree
        self.num_same = world.size // degree
        runs = [list(range(first, first + degree)) for first in range(0, world.size, degree)]
        self.shared, _ = dist.new_subgroups_by_enumeration(runs)
        self.same, _ = dist.new_subgroups_by_enumeration([list(column) for column in zip(*runs, strict=True)])


class ExpertParallel(Experts):
    """In front of experts: x `M D` and counts `E` -> `M D`, with weights `up` and `down` of this rank's experts alone."""

    groups: ExpertGroups

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        there = counts.unflatten(0, (self.groups.degree, -1))                 # P E/P  rows that we send to each expert of each rank
        here = torch.empty_like(there)                                        # P E/P  rows that each rank sends to each of our experts
        dist.all_to_all_single(here, there.contiguous(), group=self.groups.shared)
        sent, received = there.sum(dim=1).tolist(), here.sum(dim=1).tolist()
        rows = self._exchange(x, received, sent)                              # N D, by sender, then by expert
        expert = torch.arange(here.shape[1], device=x.device).repeat(self.groups.degree).repeat_interleave(here.flatten())
        order = expert.argsort(stable=True)
        outputs = super().forward(rows.index_select(0, order), here.sum(dim=0))
        place = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=x.device))
        return self._exchange(outputs.index_select(0, place), sent, received)

    def _exchange(self, rows: Tensor, received: list[int], sent: list[int]) -> Tensor:
        exchanged = all_to_all_single_autograd(rows.contiguous(), received, sent, self.groups.shared)
        return torch.ops._c10d_functional.wait_tensor(exchanged)


def split_experts(model: UnifiedTransformer, groups: ExpertGroups) -> set[str]:
    """Split the experts of every mixture; the names of the parameters that are now split."""
    for name, module in model.named_modules():
        if name.endswith("moe.experts") and isinstance(module, Experts):
            share = module.up.shape[0] // groups.degree
            mine = slice(groups.index * share, (groups.index + 1) * share)
            in_front(module, ExpertParallel).groups = groups
            module.up, module.down = (nn.Parameter(weight.detach()[mine].clone()) for weight in (module.up, module.down))
    return {f"{name}.{leaf}" for name, module in model.named_modules() if isinstance(module, ExpertParallel) for leaf in ("up", "down")}


def part_of_experts(shape: Shape, groups: ExpertGroups, world: World) -> Part:
    """This rank's rows of a tensor with one row per expert."""
    first_row = groups.index * (shape[0] // groups.degree)
    return Part(shape, (first_row, *(0,) * (len(shape) - 1)), first=world.rank < groups.degree)
