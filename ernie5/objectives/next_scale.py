"""Vision: every token of a scale predicts its d bits at once, each a yes-or-no question.

    L = sum_n w_n * mean over the bits that are on of BCE(logit, bit),     w_n comes with the batch: more for early scales

Report: §2.2.3 (next frame and scale prediction, more weight on early scales). Ours: d logits (decision 8).
Letters: m targets, d bits, a of them on: the first (decision 8).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def next_scale_sum(logits: Tensor, bits: Tensor, weight: Tensor) -> Tensor:
    """Weighted sum of the mean bit loss: logits `m d`, bits `m a` in {0, 1}, weight `m` -> scalar in nats per bit."""
    return (bit_losses(logits, bits).mean(dim=-1) * weight).sum()


def bit_losses(logits: Tensor, bits: Tensor) -> Tensor:
    """Logits `m d`, the bits that are on `m a` in {0, 1} -> nats `m a`."""
    return F.binary_cross_entropy_with_logits(logits[:, : bits.shape[1]].float(), bits.float(), reduction="none")
