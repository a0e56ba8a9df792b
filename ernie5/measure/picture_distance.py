"""How far a reconstruction is from its picture.

    PSNR      10 log10(255^2 / mean squared error)                                in dB, more is better; equal pictures count as 100
    SSIM      mean over windows and channels of
              (2 m_x m_y + C1)(2 s_xy + C2) / ((m_x^2 + m_y^2 + C1)(s_x^2 + s_y^2 + C2))   1 = equal; C1 = 2.55^2, C2 = 7.65^2
              windows: 11 x 11, Gaussian of 1.5 pixels; only those that lie inside the picture
    gradient  mean over resolutions 1, 1/2, 1/4 of mean |d(y - x)| in grey levels, d = differences between neighbours
Source: Wang et al. 2004 (SSIM, their window and constants, here on each of R, G, B). Ours: the gradient error, the cap.
Letters: t frames, c channels, h w pixels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SAME_DB = 100.0
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def psnr(picture: Tensor, other: Tensor) -> float:
    """Two uint8 (or float 0..255) of any one shape -> dB, at most `SAME_DB`."""
    error = (picture.double() - other.double()).square().mean()
    return min(SAME_DB, float(10 * torch.log10(255**2 / error)))


def ssim(picture: Tensor, other: Tensor) -> float | None:
    """Two `t c h w` in 0..255 -> -1..1; None where a side is shorter than the window."""
    if min(picture.shape[-2:]) < WINDOW:
        return None
    grey_x, grey_y = (float(p.double().mean()) for p in (picture, other))
    x, y = picture.float().flatten(0, 1) - grey_x, other.float().flatten(0, 1) - grey_y  # (t c) h w; about zero: float32 is enough
    mean_x, mean_y, squares, product = _blur(torch.stack([x, y, x * x + y * y, x * y])).unbind(0)
    variances, both = squares - mean_x**2 - mean_y**2, product - mean_x * mean_y
    mean_x, mean_y = mean_x + grey_x, mean_y + grey_y
    above = (2 * mean_x * mean_y + C1) * (2 * both + C2)
    return float((above / ((mean_x**2 + mean_y**2 + C1) * (variances + C2))).double().mean())


def gradient_error(picture: Tensor, other: Tensor, num_resolutions: int = 3) -> float:
    """Two `t c h w` in 0..255 -> grey levels per pixel step. Resolutions that leave no neighbours are left out."""
    error, found = other.float() - picture.float(), []
    for resolution in range(num_resolutions):
        error = F.avg_pool2d(error, 2) if resolution else error
        steps = torch.cat([error.diff(dim=-1).flatten(), error.diff(dim=-2).flatten()])
        if steps.numel():
            found.append(steps.abs().mean())
        if min(error.shape[-2:]) < 2:
            break
    return float(torch.stack(found).mean()) if found else 0.0


def _blur(x: Tensor) -> Tensor:
    """`… h w` -> `… h-10 w-10`: the Gaussian window, one side at a time. Sums of shifted maps take a tenth of conv2d's time on a CPU."""
    at = torch.arange(WINDOW, dtype=torch.float64) - WINDOW // 2
    weight = torch.exp(-at.square() / (2 * SIGMA**2))
    weights = (weight / weight.sum()).tolist()
    for side in (-2, -1):
        length = x.shape[side] - WINDOW + 1
        total = x.narrow(side, 0, length) * weights[0]
        for i in range(1, WINDOW):
            total.add_(x.narrow(side, i, length), alpha=weights[i])
        x = total
    return x
