"""Audio: cross-entropy of every code of the next frame, each level read after its own layer.

    L = sum over frames of the mean over levels of -log p_q(a_q)

Report: §2.3.2. Ours: levels weigh the same; the end of a sound is a class of every level. Letters: m frames, Q codebooks.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def next_codec_sum(logits: tuple[Tensor, ...], target: Tensor) -> Tensor:
    """Q x logits `m codebook_size + 1`, target `m Q` -> scalar in nats per code."""
    levels = [F.cross_entropy(level.float(), target[:, q], reduction="sum") for q, level in enumerate(logits)]
    return torch.stack(levels).mean()
