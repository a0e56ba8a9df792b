"""The default engine: one process, or data ranks under torchrun (gloo on CPU, NCCL on GPU) that may share weights and experts.

    zero 0: DistributedDataParallel     zero 2, 3: FSDP2     expert > 1: experts spread over ranks (expert_parallel.py)

Weights and moments are fp32; on a GPU products run in bf16 under autocast. Needs nothing but torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ernie5.model.elastic import Touched
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.clip import clip_by_world_norm
from ernie5.parallel.engine import LossFunction, MicroBatch, StepResult
from ernie5.parallel.expert_parallel import ExpertGroups, part_of_experts, split_experts
from ernie5.parallel.host_optimizer import HostOptimizer
from ernie5.parallel.parts import load_parts, shards_of, sliced, whole_parts
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.shards import Reader, Shard
from ernie5.parallel.spread import LossOfModel, accumulating, finish_experts, fully_sharded, replicated
from ernie5.parallel.untouched import as_before
from ernie5.parallel.world import World


class TorchEngine:
    """Implements `Engine`. `clip` is the largest gradient norm of a step. `elastic`: layers may be left out of a pass."""

    def __init__(
        self, model: UnifiedTransformer, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], world: World, clip: float = 1.0,
        bf16: bool = False, elastic: bool = False, plan: ParallelPlan = ParallelPlan()  # noqa: B008
    ) -> None:
        self.model, self.world, self.clip, self.bf16 = model, world, clip, bf16
        self.data_rank, self.data_size = world.rank, world.size
        self.parts = whole_parts(model, first=world.rank == 0)
        self.groups = ExpertGroups(world, plan.expert) if plan.expert > 1 else None
        self.split: set[str] = set()
        if self.groups is not None:
            self.split = split_experts(model, self.groups)
            self.parts |= {name: part_of_experts(self.parts[name].shape, self.groups, world) for name in self.split}
        self.runner: nn.Module
        if world.size == 1:
            self.runner = LossOfModel(model)
        elif plan.zero:
            self.runner = fully_sharded(model, world, self.groups, plan.zero)
            self.parts = {name: sliced(self.parts[name], tensor) for name, tensor in model.state_dict().items()}
        else:
            self.runner = replicated(model, world, self.split, elastic)
        self.whole_model = self.groups is None and not plan.zero
        self.optimizer = make_optimizer(model)
        if "optimizer" in plan.memory.offload:
            self.optimizer = HostOptimizer(self.optimizer)
        self.experts = [parameter for name, parameter in model.named_parameters() if name in self.split]

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        summed = torch.zeros(5, device=self.world.device)
        for number, micro_batch in enumerate(micro_batches):
            with accumulating(self.runner, last=number + 1 == len(micro_batches)):
                with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
                    total, losses = self.runner(loss_function, micro_batch)
                (total * self.world.size).backward()  # ranks are averaged; the contract is a sum
            summed += losses
        if self.groups is not None:
            finish_experts(self.experts, self.groups, self.world)
        return self.sum_over_data(summed)

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        """Every rank sees the same norm, so every rank takes the same decision."""
        norm = self._clipped()
        skipped = not bool(torch.isfinite(norm))
        if not skipped:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            with as_before(self.model, self.optimizer, touched, self.parts):
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(float(norm), skipped)

    def _clipped(self) -> Tensor:
        gradients = {name: p.grad for name, p in self.model.named_parameters() if p.grad is not None}
        if not self.split and not any(isinstance(g, DTensor) for g in gradients.values()):  # all ranks hold the same
            return torch.nn.utils.clip_grad_norm_([p for p in self.model.parameters() if p.grad is not None], self.clip)
        copies = {name: self.groups.num_same if self.groups and name in self.split else self.world.size for name in gradients}
        pairs = ((g, 1 if isinstance(g, DTensor) else copies[name]) for name, g in gradients.items())
        return clip_by_world_norm(pairs, self.clip, self.world)

    def sum_over_data(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def sum_over_world(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def shards(self) -> Iterator[Shard]:
        return shards_of(self.model, self.optimizer, self.parts)

    def load(self, reader: Reader) -> None:
        load_parts(self.model, self.optimizer, self.parts, reader)
