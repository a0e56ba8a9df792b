"""Text: cross-entropy of the next token, and of the token after it.

A target may be chosen among a few classes only (decision 5: at the end of a frame {NEXT_FRAME, EOV}); the others then get no probability.
Report: §2.1 (NTP + MTP). Letters: m targets, V text ids.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.sequence import Choice

EXCLUDED = -1e9  # logit of a class that cannot be chosen: probability exactly 0, and finite, because guidance subtracts logits
NEXT_FRAME_OR_END = (10, 6)  # ids of NEXT_FRAME and EOV; a test holds them equal to the tokenizers' SpecialToken


def restrict(logits: Tensor, choice: Tensor) -> Tensor:
    """logits `m V`, choice `m` -> logits with EXCLUDED at the classes that cannot be chosen."""
    allowed = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
    allowed[list(NEXT_FRAME_OR_END)] = True
    excluded = (choice == Choice.NEXT_OR_END).unsqueeze(-1) & ~allowed
    return logits.masked_fill(excluded, EXCLUDED)


def next_token_sum(logits: Tensor, target: Tensor, weight: Tensor, choice: Tensor | None = None) -> Tensor:
    """Weighted sum of -log p(target): logits `m V`, target `m`, weight `m` -> scalar in nats."""
    logits = logits.float()
    if choice is not None:
        logits = restrict(logits, choice)
    return (F.cross_entropy(logits, target, reduction="none") * weight).sum()
