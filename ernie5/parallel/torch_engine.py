"""The default engine: one process, or data parallel with DistributedDataParallel under torchrun (gloo on CPU, NCCL on GPU).

Weights and moments are fp32; on a GPU products run in bf16 under autocast. Needs nothing but torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ernie5.model.elastic import Touched
from ernie5.objectives.next_group import Losses
from ernie5.parallel.engine import LossFunction, MicroBatch, StepResult
from ernie5.parallel.shards import Reader, Shard
from ernie5.parallel.untouched import as_before
from ernie5.parallel.whole_state import load_whole, whole_shards
from ernie5.parallel.world import World


class LossOfModel(nn.Module):
    """The model and its loss in one `forward`, so that DistributedDataParallel sees from the loss which parameters took part."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_function: LossFunction, micro_batch: MicroBatch) -> Losses:
        return loss_function(self.model, micro_batch)


class TorchEngine:
    """Implements `Engine`. `clip` is the largest gradient norm of a step. `elastic`: layers may be left out of a pass."""

    whole_model = True

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, world: World, clip: float = 1.0, bf16: bool = False, elastic: bool = False
    ) -> None:
        self.model, self.optimizer, self.world, self.clip, self.bf16 = model, optimizer, world, clip, bf16
        self.data_rank, self.data_size = world.rank, world.size
        self.runner: nn.Module = LossOfModel(model)
        if world.size > 1:
            ids = [world.device.index] if world.device.type == "cuda" else None
            self.runner = DistributedDataParallel(
                self.runner, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=elastic)

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        summed = torch.zeros(5, device=self.world.device)
        for number, micro_batch in enumerate(micro_batches):
            last = number + 1 == len(micro_batches)
            with contextlib.nullcontext() if last or self.world.size == 1 else self.runner.no_sync():
                with torch.autocast(self.world.device.type, torch.bfloat16, enabled=self.bf16):
                    losses = self.runner(loss_function, micro_batch)
                (losses.total * self.world.size).backward()  # DDP averages over ranks; the contract is a sum
            summed += losses.detached()
        return self.sum_over_data(summed)

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        """Every rank holds the same reduced gradients, so every rank sees the same norm and takes the same decision."""
        parameters = [p for p in self.model.parameters() if p.grad is not None]
        norm = torch.nn.utils.clip_grad_norm_(parameters, self.clip, error_if_nonfinite=False)
        skipped = not bool(torch.isfinite(norm))
        if not skipped:
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            with as_before(self.model, self.optimizer, touched):
                self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepResult(float(norm), skipped)

    def sum_over_data(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def sum_over_world(self, x: Tensor) -> Tensor:
        return self.world.sum(x)

    def shards(self) -> Iterator[Shard]:
        """Every rank holds the same: the first one hands it out."""
        return whole_shards(self.model, self.optimizer) if self.world.rank == 0 else iter(())

    def load(self, reader: Reader) -> None:
        load_whole(self.model, self.optimizer, reader)
