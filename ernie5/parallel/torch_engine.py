"""The default engine: one process, or data parallel with DistributedDataParallel under torchrun (gloo on CPU, NCCL on GPU).

Weights and moments are fp32; on a GPU products run in bf16 under autocast. Needs nothing but torch.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ernie5.model.elastic import Touched
from ernie5.objectives.next_group import Losses
from ernie5.parallel.engine import LossFunction, MicroBatch, StepResult
from ernie5.parallel.optimizer_state import load_optimizer_tensors, model_tensors, optimizer_tensors
from ernie5.parallel.untouched import as_before

WAIT = timedelta(hours=12)  # rank 0 trains tokenizers and evaluates while the others wait


@dataclass(frozen=True)
class World:
    """Who we are among the processes of this run."""

    rank: int
    size: int
    device: torch.device

    @classmethod
    def join(cls, device: str = "auto") -> "World":
        """Read torchrun's environment; start the process group when there is more than one process."""
        rank, size, local = (int(os.environ.get(k, d)) for k, d in (("RANK", "0"), ("WORLD_SIZE", "1"), ("LOCAL_RANK", "0")))
        if device != "cpu" and device != "auto" and not device.startswith("cuda"):
            raise ValueError(f"train.device = {device} is not known; use auto, cpu or cuda")
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise ValueError(f"train.device = {device}, but torch finds no GPU here; use auto or cpu, or install a torch for CUDA")
        cuda = device != "cpu" and torch.cuda.is_available()
        chosen = torch.device("cpu") if not cuda else torch.device(device if ":" in device else f"cuda:{local}")
        if cuda:
            torch.cuda.set_device(chosen)
        if size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if cuda else "gloo", timeout=WAIT)
        return cls(rank, size, chosen)

    def barrier(self) -> None:
        if self.size > 1:
            dist.barrier()

    def leave(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()


class LossOfModel(nn.Module):
    """The model and its loss in one `forward`, so that DistributedDataParallel sees from the loss which parameters took part."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_function: LossFunction, micro_batch: MicroBatch) -> Losses:
        return loss_function(self.model, micro_batch)


class TorchEngine:
    """Implements `Engine`. `clip` is the largest gradient norm of a step. `elastic`: layers may be left out of a pass."""

    def __init__(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, world: World, clip: float = 1.0, bf16: bool = False, elastic: bool = False
    ) -> None:
        self.model, self.optimizer, self.world, self.clip, self.bf16 = model, optimizer, world, clip, bf16
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
        if self.world.size > 1:
            dist.all_reduce(x)
        return x

    def state_dict(self) -> dict[str, Tensor]:
        weights = {f"model.{name}": tensor.detach() for name, tensor in self.model.state_dict().items()}
        return weights | optimizer_tensors(self.model, self.optimizer)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.model.load_state_dict(model_tensors(state))
        load_optimizer_tensors(self.model, self.optimizer, state)
