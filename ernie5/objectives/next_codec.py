"""Audio: cross-entropy of every code of the next frame, each level read after its own layer.

    L = sum over frames of the mean over levels of -log p_q(a_q)

Report: §2.3.2. Ours: levels weigh the same; the end of a sound is a class of every level. Letters: m frames, Q codebooks.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor


def next_codec_sum(logits: Mapping[int, Tensor], target: Tensor) -> Tensor:
    """Level -> logits `m codebook_size + 1` (a stage of a pipeline has some of the levels), target `m Q` -> scalar in nats per code."""
    levels = [F.cross_entropy(level.float(), target[:, q], reduction="sum") for q, level in logits.items()]
    return torch.stack(levels).sum() / target.shape[1]
