"""The Megatron engine: its schedules run our model in chunks, its gradient buffers add up, and our step or its shared one follows.

    forward_backward   schedule(chunks) -> gradients added up over data ranks -> those of shared parameters over tensor ranks
    optimizer_step     one norm over the whole model -> all agree -> step; what was not touched is put back

Nothing is scaled: losses come in divided by global counts. Ours: the order; see build.py for who makes the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.distributed as dist
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import DistributedOptimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor, nn

from ernie5.model.elastic import Touched
from ernie5.objectives.next_group import Losses
from ernie5.parallel.engine import LossFunction, MicroBatch, StepResult
from ernie5.parallel.megatron.groups import Axis, Groups
from ernie5.parallel.megatron.held import Held, as_before, clip
from ernie5.parallel.megatron.rows import alike
from ernie5.parallel.megatron.state import MegatronState
from ernie5.parallel.shards import Reader, Shard
from ernie5.parallel.world import World


class MegatronEngine:
    """Implements `Engine`. `chunks`: the pieces of the model that this process runs; `steppers`: what steps, `held` what they step."""

    def __init__(
        self, model: nn.Module, chunks: list[DistributedDataParallel], steppers: Sequence[torch.optim.Optimizer | DistributedOptimizer],
        held: list[Held], state: MegatronState, groups: Groups, world: World, num_layers: int,
        largest_norm: float, bf16: bool,
    ) -> None:
        self.model, self.chunks, self.steppers, self.held, self.state = model, chunks, steppers, held, state
        self.groups, self.world, self.num_layers, self.largest_norm, self.bf16 = groups, world, num_layers, largest_norm, bf16
        self.data_rank, self.data_size = groups.data.rank, groups.data.size
        self.schedule = get_forward_backward_func()
        for chunk in chunks:
            chunk.config.finalize_model_grads_func = self.finish_gradients

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        """All micro-batches of a step at once: gradients begin at zero here and are exchanged at the end."""
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        batches = [alike(micro_batch, self.groups.expert, self.num_layers) for micro_batch in micro_batches]
        rows, length = batches[0].packed.sample.shape

        def forward_step(data: Iterator[MicroBatch], chunk: nn.Module):
            with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
                return chunk(loss_function, next(data)), finished

        data = [iter(batches) for _ in self.chunks]
        parts = self.schedule(forward_step_func=forward_step, data_iterator=data, model=self.chunks, num_microbatches=len(batches),
                              seq_length=length, micro_batch_size=rows)
        summed = torch.stack(parts).sum(dim=0) if parts else torch.zeros(5, device=self.world.device)
        return self._sum(self._sum(summed, self.groups.replicas), self.groups.pipeline)

    def finish_gradients(self, chunks: list[DistributedDataParallel], num_tokens: Tensor | None, pg_collection: object,
                         force_all_reduce: bool = False) -> None:
        """The schedule calls this after its last backward pass. Parameters that tensor ranks share but use in part (norms of a head's
        width, routers, and under sequence parallelism the norms between products) have a part of their gradient on each.
        """
        for chunk in chunks:
            chunk.finish_grad_sync(force_all_reduce=force_all_reduce)
        partial = [p.main_grad for chunk in chunks for p in chunk.parameters()
                   if p.requires_grad and getattr(p, "sequence_parallel", False)]
        if partial and self.groups.tensor.size > 1:
            flat = self._sum(torch.cat([gradient.flatten() for gradient in partial]), self.groups.tensor)
            for gradient, whole in zip(partial, flat.split([g.numel() for g in partial]), strict=True):
                gradient.copy_(whole.view_as(gradient))

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        for stepper in self.steppers:
            take_gradients(stepper)
        norm = clip(self.held, self.largest_norm, self.world)
        skipped = not norm < float("inf")
        if not skipped:
            with as_before(self.held, touched):
                for stepper in self.steppers:
                    for group in stepper.param_groups:
                        group["lr"] = lr
                    step(stepper)
        for h in self.held:
            h.parameter.grad = None
        return StepResult(norm, skipped)

    def sum_over_data(self, x: Tensor) -> Tensor:
        return self._sum(x, self.groups.data)

    def sum_over_world(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def shards(self) -> Iterator[Shard]:
        yield from self.state.shards()

    def load(self, reader: Reader) -> None:
        self.state.load(reader)

    def _sum(self, x: Tensor, axis: Axis) -> Tensor:
        if axis.size > 1:
            dist.all_reduce(x, group=axis.group)
        return x


def finished(losses: Losses) -> tuple[Tensor, Tensor, Tensor]:
    """What a schedule wants of the last chunk: the loss, the tokens that it is still to be divided by (none), what to hand back."""
    return losses.total, torch.zeros((), dtype=torch.int, device=losses.total.device), losses.detached()


def take_gradients(stepper: torch.optim.Optimizer | DistributedOptimizer) -> None:
    """From Megatron's buffers to where the optimizer looks."""
    if isinstance(stepper, DistributedOptimizer):
        stepper.prepare_grads()
        return
    for group in stepper.param_groups:
        for parameter in group["params"]:
            parameter.grad = parameter.main_grad


def step(stepper: torch.optim.Optimizer | DistributedOptimizer) -> None:
    stepper.step_with_ready_grads() if isinstance(stepper, DistributedOptimizer) else stepper.step()
