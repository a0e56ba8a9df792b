"""The Megatron engine: its schedules run our model in chunks, its gradient buffers add up, and our step or its shared one follows.

    forward_backward   schedule(chunks) -> gradients added up over data and context ranks -> those of shared parameters over tensor ranks,
                       of the text table over both ends of the pipeline
    optimizer_step     one norm over the whole model -> all agree -> step; what was not touched is put back

Nothing is scaled: losses come in divided by global counts. Ours: the order; see build.py for who makes the parts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
import torch.distributed as dist
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import DistributedOptimizer
from megatron.core.pipeline_parallel import get_forward_backward_func
from torch import Tensor, nn

from ernie5.model.elastic import Touched
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.context import Share
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
        self, model: UnifiedTransformer, chunks: list[DistributedDataParallel],
        steppers: Sequence[torch.optim.Optimizer | DistributedOptimizer], held: list[Held], state: MegatronState,
        groups: Groups, world: World, num_layers: int, largest_norm: float, bf16: bool,
    ) -> None:
        self.model, self.chunks, self.steppers, self.held, self.state = model, chunks, steppers, held, state
        self.groups, self.world, self.num_layers, self.largest_norm, self.bf16 = groups, world, num_layers, largest_norm, bf16
        self.data_rank, self.data_size = groups.data.rank, groups.data.size
        self.whole_model = False  # its layers exchange with other ranks
        self.schedule = get_forward_backward_func()
        for chunk in chunks:
            chunk.config.finalize_model_grads_func = self.finish_gradients

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        """All micro-batches of a step at once: gradients begin at zero here and are exchanged at the end."""
        for chunk in self.chunks:
            chunk.zero_grad_buffer()
        check_schedule(micro_batches, self.groups.pipeline.size, len(self.chunks))
        shares = [self.share_of(micro_batch) for micro_batch in micro_batches]
        summed = torch.zeros(5, device=self.world.device)

        def forward_step(data: Iterator[Share], chunk: nn.Module):
            with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
                leaving, losses = chunk(loss_function, next(data))
            summed.add_(losses.detached())
            return leaving, finished

        data = [iter(shares) for _ in self.chunks]
        self.schedule(forward_step_func=forward_step, data_iterator=data, model=self.chunks, num_microbatches=len(shares),
                      seq_length=micro_batches[0].packed.sample.numel(), micro_batch_size=1)  # our stream travels as `T 1 D`
        return self._sum(self._sum(summed, self.groups.replicas), self.groups.pipeline)

    def share_of(self, micro_batch: MicroBatch) -> Share:
        """Our positions of a micro-batch, with a sub-model that runs what those run with whom we exchange rows of experts."""
        share = Share.of(micro_batch, self.groups.context.rank, self.groups.context.size)
        return replace(share, micro_batch=alike(share.micro_batch, self.groups.expert, self.num_layers))

    def finish_gradients(self, chunks: list[DistributedDataParallel], num_tokens: Tensor | None, pg_collection: object,
                         force_all_reduce: bool = False) -> None:
        """The schedule calls this after its last backward pass. Parameters that tensor ranks share but use in part (norms of a head's
        width, routers, and under sequence parallelism the norms between products) have a part of their gradient on each.
        """
        for chunk in chunks:
            chunk.finish_grad_sync(force_all_reduce=force_all_reduce)
            for parameter in chunk.parameters():
                if getattr(parameter, "shared_embedding", False):  # the text table, which the last stage reads too
                    assert self.groups.ends is not None
                    self._sum(parameter.main_grad, self.groups.ends)
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


def finished(total: Tensor) -> tuple[Tensor, Tensor, None]:
    """What a schedule wants of the last chunk: the loss, the tokens that it is still to be divided by (none), what to hand back."""
    return total, torch.zeros((), dtype=torch.int, device=total.device), None


def check_schedule(micro_batches: Sequence[MicroBatch], num_ranks: int, num_pieces: int) -> None:
    """ValueError for a step that a pipeline cannot run."""
    shapes = sorted({tuple(m.packed.sample.shape) for m in micro_batches})
    if num_ranks > 1 and len(shapes) > 1:
        raise ValueError(f"parallel.pipeline = {num_ranks} needs micro-batches of one shape, and this step has {shapes}; use rows that "
                         "divide every step evenly")
    if num_pieces > 1 and len(micro_batches) % num_ranks:
        raise ValueError(f"a step of {len(micro_batches)} micro-batches per data rank cannot be interleaved over parallel.pipeline = "
                         f"{num_ranks} ranks; use a multiple of {num_ranks} micro-batches, or parallel.virtual_pipeline = 1")


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
