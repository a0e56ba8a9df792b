"""The text head with logits of `chunk` targets at a time; their gradient is made while they are there.

    sum_i w_i nll_i  has the gradient  w_i (softmax(W h_i) - onehot_i)  in the logits:  times W for h_i, times h_i for W

Because the weights w of targets are known before, only a factor (the loss's own gradient) is missing until the backward pass, and neither
logits nor softmax are made twice: three products as with whole logits, and one more tensor of the size of W from forward to backward.
Source: the idea of Liger-Kernel's fused linear cross-entropy (arXiv 2410.10989). Report: §5.1. Letters: m targets, D width, V text ids.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ernie5.model.experts import compute_dtype
from ernie5.model.text_head import TextHead, restrict
from ernie5.parallel.again import again


class ChunkedTextHead(TextHead):
    """In front of a text head; logits for people (`forward`) are whole."""

    chunk: int

    def nll(self, hidden: Tensor, target: Tensor, choice: Tensor | None = None) -> Tensor:
        """As `TextHead.nll`; what comes after it is not known here, so every piece runs again in the backward pass."""
        whole = super().nll
        pieces = (hidden.split(self.chunk), target.split(self.chunk), split(choice, len(hidden), self.chunk))
        return torch.cat([again(whole, *piece) for piece in zip(*pieces, strict=True)])

    def nll_sum(self, hidden: Tensor, target: Tensor, weight: Tensor, choice: Tensor | None = None) -> Tensor:
        if not torch.is_grad_enabled():
            return (self.nll(hidden, target, choice) * weight).sum()
        return FusedSum.apply(hidden, self.weight, target, weight, choice, self.chunk)


def split(choice: Tensor | None, length: int, chunk: int) -> tuple[Tensor | None, ...]:
    return (None,) * max(1, -(-length // chunk)) if choice is None else choice.split(chunk)


class FusedSum(torch.autograd.Function):
    """hidden `m D`, W `V D`, target, weight, choice `m` -> scalar. W's gradient is added up in its own dtype (fp32)."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, table: Tensor, target: Tensor, weight: Tensor, choice: Tensor | None, chunk: int) -> Tensor:
        dtype = compute_dtype(hidden)
        product = table.to(dtype)
        d_hidden, d_table = torch.empty_like(hidden), torch.zeros_like(table)
        summed = torch.zeros((), device=hidden.device)
        for start in range(0, len(hidden), chunk):
            rows = slice(start, start + chunk)
            h, w, at = hidden[rows].to(dtype), weight[rows, None].float(), target[rows, None]
            logits = F.linear(h, product).float()                        # c V
            if choice is not None:
                logits = restrict(logits, choice[rows])
            largest, picked = logits.amax(dim=1, keepdim=True), logits.gather(1, at)
            total = logits.sub_(largest).exp_().sum(dim=1, keepdim=True)
            summed += ((total.log() + largest - picked) * w).sum()
            d_logits = logits.mul_(w / total).scatter_add_(1, at, -w).to(dtype)
            d_hidden[rows] = d_logits @ product
            if dtype == table.dtype:
                d_table.addmm_(d_logits.T, h)
            else:
                d_table += d_logits.T @ h
        ctx.save_for_backward(d_hidden, d_table)
        return summed

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, d_sum: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        """In place: a second backward pass through the same loss raises torch's own error."""
        d_hidden, d_table = ctx.saved_tensors
        return d_hidden.mul_(d_sum), d_table.mul_(d_sum), None, None, None, None
