"""Rows of figures, one a medium, and what they come to: the mean, how many there were, and the standard error of the mean.

Media count alike, however large they are; a figure that is not defined for a medium (None) is left out of its mean.
Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.measure.picture_distance import gradient_error, psnr, ssim
from ernie5.measure.sound_distance import log_mel_distance, si_sdr, stft_distance

Row = dict[str, float | None]
PICTURE = ("psnr_db", "ssim", "gradient_error")
SOUND = ("si_sdr_db", "log_mel_distance", "stft_distance")


def picture_row(original: Tensor, other: Tensor, bits: float) -> Row:
    """Two uint8 `t 3 h w` and what the second one cost."""
    return {"bits_per_pixel": bits / original[:, 0].numel(), "psnr_db": psnr(original, other), "ssim": ssim(original, other),
            "gradient_error": gradient_error(original, other)}


def sound_row(original: Tensor, other: Tensor, sample_rate_hz: int, bits: float) -> Row:
    """Two float `n` and what the second one cost."""
    return {"bits_per_second": bits * sample_rate_hz / len(original), "si_sdr_db": si_sdr(original, other),
            "log_mel_distance": log_mel_distance(original, other, sample_rate_hz),
            "stft_distance": stft_distance(original, other, sample_rate_hz)}


def summary(rows: Sequence[Row]) -> dict:
    """`{name: mean}`, `num`, and the standard errors under `error`."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    result: dict = {"num": len(rows)}
    errors: Row = {}
    for name in names:
        values = torch.tensor([row[name] for row in rows if row.get(name) is not None], dtype=torch.float64)
        result[name] = float(values.mean()) if len(values) else None
        errors[name] = float(values.std() / math.sqrt(len(values))) if len(values) > 1 else None
    return {**result, "error": errors}
