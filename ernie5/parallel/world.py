"""Who this process is among the processes of a run, and how they start and end together (torchrun's environment)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from ernie5.run.team import Team

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

    def sum(self, x: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(x)
        return x

    def add(self, numbers: Sequence[int]) -> list[int]:
        """Sums of whole numbers over all processes."""
        return self.sum(torch.tensor(numbers, dtype=torch.int64, device=self.device)).tolist() if numbers else []

    def team(self) -> Team:
        """These processes as savers and readers of one checkpoint."""
        return Team(self.rank, self.size, self.add)

    def leave(self) -> None:
        if self.size > 1 and dist.is_initialized():
            dist.destroy_process_group()
