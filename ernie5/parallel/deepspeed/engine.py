"""The DeepSpeed engine: its own engine runs backward, exchange, clipping and step; ZeRO 0 to 3 share state, gradients, weights.

DeepSpeed averages over ranks where the loss contract wants a sum, so losses go in multiplied by the number of ranks.
Ours: one optimizer group per layer, so that flat partitions have step counts of their own and a layer that ran nowhere can stay as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ernie5.model.elastic import Touched
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.build import StepConfig
from ernie5.parallel.deepspeed.config import deepspeed_config, forget_groups, import_deepspeed
from ernie5.parallel.deepspeed.fragments import Fragment, fragments
from ernie5.parallel.deepspeed.state import load_flat, shards_of_flat
from ernie5.parallel.deepspeed.untouched import FlatUntouched, by_layer
from ernie5.parallel.engine import LossFunction, MicroBatch, StepResult
from ernie5.parallel.parts import load_parts, shards_of, whole_parts
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.shards import Reader, Shard
from ernie5.parallel.spread import LossOfModel
from ernie5.parallel.untouched import as_before
from ernie5.parallel.world import World
from ernie5.sequence import PackedSequence


class DeepSpeedEngine:
    """Implements `Engine`. `deepspeed` is the engine that `deepspeed.initialize` gave."""

    def __init__(
        self, model: UnifiedTransformer, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], world: World, config: StepConfig,
        plan: ParallelPlan,
    ) -> None:
        self.model, self.world, self.zero, self.clip = model, world, plan.zero, config.clip
        self.data_rank, self.data_size, self.whole_model = world.rank, world.size, plan.zero < 3
        self.parts = whole_parts(model, first=world.rank == 0)
        self.optimizer = make_optimizer(model)
        if plan.zero:
            self.optimizer.param_groups = by_layer(model, self.optimizer)
        package = import_deepspeed()
        forget_groups()
        self.deepspeed, *_ = package.initialize(
            model=LossOfModel(model), optimizer=self.optimizer, config=deepspeed_config(plan, config.clip, config.bf16),
            dist_init_required=world.size == 1)
        self.fragments: list[Fragment] = []
        if plan.zero:
            self.fragments = list(fragments(model, self.deepspeed.optimizer, plan.zero, world.rank, self.parts))
            self.untouched = FlatUntouched(self.optimizer, self.fragments, self.parts)

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        summed = torch.zeros(5, device=self.world.device)
        for number, micro_batch in enumerate(micro_batches):
            self.deepspeed.set_gradient_accumulation_boundary(number + 1 == len(micro_batches))
            if self.zero == 3:
                micro_batch = replace(micro_batch, packed=as_often(micro_batch.packed, self.world))
            total, losses = self.deepspeed(loss_function, micro_batch)
            self.deepspeed.backward(total * self.world.size)
            summed += losses
        return self.sum_over_data(summed)

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        if self.zero:
            return self._step_flat(touched)
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.model.parameters() if p.grad is not None])
        skipped = not bool(torch.isfinite(norm))  # every rank holds the same gradients
        if skipped:
            self.deepspeed.zero_grad()
        else:
            with as_before(self.model, self.optimizer, touched, self.parts):
                self.deepspeed.step()
        return StepResult(float(norm), skipped)

    def _step_flat(self, touched: Touched | None) -> StepResult:
        """ZeRO clips, looks for inf and nan over all ranks, steps its flat partitions and gathers the new weights."""
        if self.zero == 3 and touched is not None and not all(touched.experts):
            raise ValueError("parallel.zero = 3 of DeepSpeed applies the last gradient again to a layer that a step left out; use "
                             "parallel.zero = 2, or elastic.depth.probability = 0")
        with self.untouched.as_before(touched):
            self.deepspeed.step()
        return StepResult(float(self.deepspeed.get_global_grad_norm()), not self.deepspeed.was_step_applied())

    def sum_over_data(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def sum_over_world(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def shards(self) -> Iterator[Shard]:
        if not self.zero:
            return shards_of(self.model, self.optimizer, self.parts)
        return shards_of_flat(self.model, self.optimizer, self.fragments, self.parts, self.world)

    def load(self, reader: Reader) -> None:
        if not self.zero:
            load_parts(self.model, self.optimizer, self.parts, reader)
        else:
            load_flat(self.model, self.optimizer, self.fragments, self.parts, reader)


def as_often(packed: PackedSequence, world: World) -> PackedSequence:
    """The same batch with empty understanding reads added until all ranks have equally many: the encoder runs once per batch of reads, and
    ZeRO 3 gathers its weights at every run, so a rank that ran it once more would wait in vain.
    """
    most = torch.tensor(len(packed.understand), device=world.device)
    if world.size > 1:
        dist.all_reduce(most, dist.ReduceOp.MAX)
    last = packed.understand[-1]
    empty = last.select([False] * len(last.sizes))
    return replace(packed, understand=packed.understand + (empty,) * (int(most) - len(packed.understand)))
