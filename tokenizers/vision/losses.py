"""What a reconstruction must get right: colours, edges at several resolutions, and a latent that is near its quantized value.

    reconstruction = mean(w |y - x|) + l2 mean(w (y - x)^2),   w = 1 + foreground * max_c |x - median(x)| (at most 1 a pixel)
    gradient       = mean over resolutions 1, 1/2, 1/4 of mean |d(y - x)|, d = differences between neighbouring pixels
    commitment     = mean (latent - quantized)^2

The weight keeps small things on a plain background from being averaged away. Without adversarial and semantic terms.
Report: §2.2.1. Ours: the terms and their weights.
Letters: n items, t frames, c channels, h w pixels in [-1, 1].
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def foreground_weight(target: Tensor, strength: float) -> Tensor:
    """1 + strength times the distance from the frame's median colour (at most 1): `n t c h w` -> `n t 1 h w`."""
    median = target.flatten(-2).median(-1).values[..., None, None]
    return 1 + strength * (target - median).abs().amax(2, keepdim=True).clamp(max=1)


def reconstruction_loss(output: Tensor, target: Tensor, *, foreground: float, l2: float) -> Tensor:
    """Weighted absolute plus `l2` times squared error of `n t c h w`, a scalar."""
    with torch.no_grad():
        weight = foreground_weight(target, foreground)
    error = output - target
    return (weight * (error.abs() + l2 * error.square())).mean()


def gradient_loss(output: Tensor, target: Tensor, num_resolutions: int = 3) -> Tensor:
    """Mean absolute error of the differences between neighbours, at `num_resolutions` resolutions each half of the one before."""
    error = (output - target).flatten(0, 1)
    loss = error.new_zeros(())
    for resolution in range(num_resolutions):
        error = F.avg_pool2d(error, 2) if resolution else error
        loss = loss + error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()
    return loss / num_resolutions


def commitment_loss(latent: Tensor, quantized: Tensor) -> Tensor:
    """Pulls the latent towards its quantized value (no gradient to the latter)."""
    return F.mse_loss(latent, quantized.detach())
