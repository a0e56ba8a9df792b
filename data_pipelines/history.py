"""History corruption and forgotten frames: the model trains on the mistakes that it will make.

    rate of scale k in frame t ~ U(0.01 t, 0.25 + 0.01 t) capped at 0.5;   a frame's first scale at least at the last rate before it
    flipped bits enter the history, the targets are the residual quantized again given that history

Report: §2.2.3 (random bit flips, random masking of history frames). Ours: decisions 9 and 11 (VideoAR's published form and rates).
Letters: T frames, K scales, N_k positions of a scale, d bits.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class HistoryConfig:
    """`flip_max` 0 turns bit flips off, `frame_drop` 0 keeps every frame visible."""

    flip_max: float = 0.25
    flip_drift: float = 0.01
    flip_cap: float = 0.5
    frame_drop: float = 0.1


def flip_rates(num_frames: int, num_scales: int, random: np.random.Generator, config: HistoryConfig) -> np.ndarray:
    """Rates `T K`."""
    rates = np.zeros((num_frames, num_scales))
    last = 0.0
    for t in range(num_frames):
        low, high = config.flip_drift * t, min(config.flip_cap, config.flip_max + config.flip_drift * t)
        rates[t] = random.uniform(low, high, num_scales)
        if t > 0:
            rates[t, 0] = random.uniform(min(last, high), high)
        last = rates[t, -1]
    return rates


def draw_flips(scales: tuple[tuple[int, int], ...], bits: int, rates: np.ndarray, random: np.random.Generator) -> tuple[Tensor, ...]:
    """K masks `T N_k d`, True where a bit is flipped."""
    masks = []
    for k, (height, width) in enumerate(scales):
        chance = random.random((len(rates), height * width, bits), dtype=np.float32)
        masks.append(torch.from_numpy(chance < rates[:, k, None, None]))
    return tuple(masks)


def draw_kept(num_frames: int, random: np.random.Generator, config: HistoryConfig) -> list[bool]:
    """Which generated frames later frames may look at."""
    return (random.random(num_frames) >= config.frame_drop).tolist()
