"""Muon for the kernels of a convolutional network, AdamW for its vectors; one learning-rate factor for both.

A kernel `o i ...` is optimized as the matrix `o (i ...)`: a view of the same storage, so that `torch.optim.Muon` (which takes 2-D
parameters only) is used as it is. Worth more than 3 x in training time against AdamW for small convolutional autoencoders.
Report: silent.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn

from ernie5.tokenizers.optimizer_tensors import load_optimizer, optimizer_tensors


class MuonWithAdamW:
    """`zero_grad`, `step(factor)`: factor times the base learning rates. Parameters of two or more dimensions are matrices."""

    def __init__(self, parameters: Iterable[nn.Parameter], *, matrix_lr: float, vector_lr: float, weight_decay: float = 0.0) -> None:
        parameters = [p for p in parameters if p.requires_grad]
        self.kernels = [p for p in parameters if p.ndim >= 2]
        self.matrices = [nn.Parameter(p.detach().flatten(1)) for p in self.kernels]
        assert all(m.data_ptr() == p.data_ptr() for m, p in zip(self.matrices, self.kernels, strict=True)), "kernels must be contiguous"
        vectors = [p for p in parameters if p.ndim < 2]
        self.muon = torch.optim.Muon(self.matrices, lr=matrix_lr, weight_decay=weight_decay)
        self.adamw = torch.optim.AdamW(vectors, lr=vector_lr, betas=(0.9, 0.95), weight_decay=0.0)
        self.base = (matrix_lr, vector_lr)

    def zero_grad(self) -> None:
        """Forget the gradients."""
        self.adamw.zero_grad()
        for kernel in self.kernels:
            kernel.grad = None

    def step(self, factor: float = 1.0) -> None:
        """One update with `factor` times the base learning rates; kernels without a gradient stay."""
        for matrix, kernel in zip(self.matrices, self.kernels, strict=True):
            matrix.grad = None if kernel.grad is None else kernel.grad.flatten(1)
        for optimizer, base in zip((self.muon, self.adamw), self.base, strict=True):
            for group in optimizer.param_groups:
                group["lr"] = base * factor
            optimizer.step()

    def tensors(self) -> dict[str, Tensor]:
        """The moments of both, by name."""
        return {**optimizer_tensors(self.muon, "muon"), **optimizer_tensors(self.adamw, "adamw")}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave."""
        load_optimizer(self.muon, tensors, "muon")
        load_optimizer(self.adamw, tensors, "adamw")


def flat_then_linear(step: int, num_steps: int, *, warmup: int, flat: float, last: float = 0.02) -> float:
    """The learning-rate factor of a step: linear warmup, flat until `flat` of the run, then linear to `last` (above zero)."""
    done = step / num_steps
    return min(1.0, (step + 1) / max(1, warmup)) * (1.0 if done < flat else max(last, (1 - done) / (1 - flat)))
