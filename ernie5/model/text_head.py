"""The head over text ids: logits for people and sampling, and -log p of targets for training.

    nll_m = -log softmax(restrict(W h_m))[target_m]

A target may be chosen among a few classes only (decision 5: at the end of a frame {NEXT_FRAME, EOV}); the others then get no probability.
Training asks for `nll_sum` and never for logits, so that another head may make them in pieces or split over ranks.
Report: Fig. 1. Letters: m targets, D width, V text ids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ernie5.sequence import Choice

EXCLUDED = -1e9  # logit of a class that cannot be chosen: probability exactly 0, and finite, because guidance subtracts logits
NEXT_FRAME_OR_END = (10, 6)  # ids of NEXT_FRAME and EOV; a test holds them equal to the tokenizers' SpecialToken


def restrict(logits: Tensor, choice: Tensor, first: int = 0) -> Tensor:
    """logits `m V` of the ids from `first` on, choice `m` -> logits with EXCLUDED at the classes that cannot be chosen."""
    ids = torch.arange(first, first + logits.shape[-1], device=logits.device)
    allowed = torch.isin(ids, torch.tensor(NEXT_FRAME_OR_END, device=logits.device))
    excluded = (choice == Choice.NEXT_OR_END).unsqueeze(-1) & ~allowed
    return logits.masked_fill(excluded, EXCLUDED)


class TextHead(nn.Linear):
    """hidden `m D` -> logits `m V`."""

    def __init__(self, dim: int, vocab_size: int) -> None:
        super().__init__(dim, vocab_size, bias=False)

    def nll(self, hidden: Tensor, target: Tensor, choice: Tensor | None = None) -> Tensor:
        """hidden `m D`, target `m`, choice `m` -> `m` nats, float32."""
        logits = self(hidden).float()
        if choice is not None:
            logits = restrict(logits, choice)
        return F.cross_entropy(logits, target, reduction="none")

    def nll_sum(self, hidden: Tensor, target: Tensor, weight: Tensor, choice: Tensor | None = None) -> Tensor:
        """The sum over targets of weight times nats: a head that knows the weights can make gradients as it goes."""
        return (self.nll(hidden, target, choice) * weight).sum()
