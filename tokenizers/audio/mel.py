"""Log-mel energies: the spectrum in bands as wide as the ear's, used by the default teacher and to measure distances.

    mel(hz) = 2595 log10(1 + hz / 700)      band i: a triangle of height 1 between the neighbouring centres, equally spaced in mel
Letters: m bands, b bins, n sounds, t short frames.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def mel_filters(num_bands: int, num_bins: int, sample_rate_hz: int) -> Tensor:
    """Triangles float32 `m b` from 0 Hz to half the sample rate; a band narrower than a bin is widened until it holds one."""
    hz = torch.linspace(0, sample_rate_hz / 2, num_bins, dtype=torch.float64)                          # b
    top = 2595 * math.log10(1 + sample_rate_hz / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, top, num_bands + 2, dtype=torch.float64) / 2595) - 1)      # m + 2
    left, centre, right = (edges[i:i + num_bands, None] for i in range(3))                             # m 1
    bin_hz = hz[1]
    rise = (hz - left) / (centre - left).clamp_min(bin_hz)
    fall = (right - hz) / (right - centre).clamp_min(bin_hz)
    triangles = torch.minimum(rise, fall).clamp_min(0)
    nearest_bin = (hz - centre).abs().argmin(1)
    triangles[torch.arange(num_bands), nearest_bin] = triangles[torch.arange(num_bands), nearest_bin].clamp_min(0.5)
    return triangles.float()


def log_mel(magnitudes: Tensor, filters: Tensor, floor: float) -> Tensor:
    """log(1 + mel magnitude / floor): `n t b` and `m b` -> `n t m`."""
    return torch.log1p(magnitudes @ filters.to(magnitudes).mT / floor)
