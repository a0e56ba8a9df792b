"""Multi-scale residual quantization of a latent map: coarse to fine, each scale codes what the scales before it left over.

    r_k = down(F - S_{k-1}, size_k),  bits_k = [r_k > mu_k],  S_k = S_{k-1} + up(value(bits_k), size)          S_0 = 0

down = area average, up = bilinear: both linear and per channel, so a prefix of channels is coded the same without the others.
Grids of other sizes have other numbers of scales; which of them share statistics is said by `ScaleConfig.share`.
With flips the history S carries the flipped bits while the targets are the residual of *that* history, quantized again: the
following scales learn to repair what went wrong.
Report: §2.2.1, §2.2.3 (history corruption, self-correction). Implements `tokenizers.base.Quantizer`.
Letters: n frames, d bits, h w latent grid, K scales, N_k = h_k w_k positions of a scale.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.base import ScaleCodes
from ernie5.tokenizers.vision.bitwise_quantizer import BitwiseQuantizer
from ernie5.tokenizers.vision.scales import DOUBLING, ScaleConfig, scale_schedule


def down(x: Tensor, size: Sequence[int]) -> Tensor:
    """Area average of `n d h w` to `n d h_k w_k`."""
    return x if x.shape[-2:] == tuple(size) else F.adaptive_avg_pool2d(x, (size[0], size[1]))


def up(x: Tensor, size: Sequence[int]) -> Tensor:
    """Bilinear resize of `n d h_k w_k` to `n d h w`."""
    return x if x.shape[-2:] == tuple(size) else F.interpolate(x, size=list(size), mode="bilinear", align_corners=False)


class MultiscaleResidualQuantizer(nn.Module):
    """The quantizer of a vision tokenizer: `num_scales` is the most scales that a grid may have."""

    def __init__(self, num_scales: int, bits: int, schedule: ScaleConfig = DOUBLING) -> None:
        super().__init__()
        self.bits = bits
        self.schedule = schedule
        self.levels = BitwiseQuantizer(num_scales, bits)

    def scales(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(h_k, w_k) of every scale for a latent grid; the first is 1 x 1, the last the grid itself."""
        sizes = scale_schedule(height, width, self.schedule)
        if len(sizes) > self.levels.num_scales:
            raise ValueError(
                f"latent grid {height} x {width} has {len(sizes)} scales, but this tokenizer was trained for at most "
                f"{self.levels.num_scales}; use smaller media or train a tokenizer on media of this size"
            )
        return sizes

    @torch.no_grad()
    def encode(self, latent: Tensor, flips: tuple[Tensor, ...] | None = None) -> ScaleCodes:
        """latent `n d h w` -> codes. `flips`: K bool masks `n N_k d`; a flipped bit enters the history, not the target."""
        self._check(latent)
        size = latent.shape[-2:]
        sizes = self.scales(*size)
        if flips is not None and len(flips) != len(sizes):
            raise ValueError(f"flips has {len(flips)} masks, but a grid of {size[0]} x {size[1]} has {len(sizes)} scales; give one each")
        total = torch.zeros_like(latent)
        targets, reads = [], []
        for scale, cells in enumerate(sizes):
            if scale:
                reads.append(self.read(total, scale))
            bits = rearrange(self.levels.bit(down(latent - total, cells), self._row(scale, sizes)), "n d h w -> n (h w) d")
            targets.append(bits.to(latent.dtype))
            total = self.add(total, bits if flips is None else bits ^ flips[scale], scale)
        return ScaleCodes(bits=tuple(targets), reads=tuple(reads), total=total, pooled=self.read(total, 0))

    def add(self, total: Tensor, bits: Tensor, scale: int) -> Tensor:
        """Add the values of one scale's bits `n N_k d` (0 / 1 or bool) to the running feature `n d h w`."""
        sizes = self.scales(*total.shape[-2:])
        h, w = sizes[scale]
        value = self.levels.value(rearrange(bits, "n (h w) d -> n d h w", h=h, w=w), self._row(scale, sizes))
        return total + up(value, total.shape[-2:])

    def read(self, total: Tensor, scale: int) -> Tensor:
        """The running feature `n d h w` resized to `scale` as positions: `n N_k d`."""
        return rearrange(down(total, self.scales(*total.shape[-2:])[scale]), "n d h w -> n (h w) d")

    def quantize(self, latent: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Training of the tokenizer: latent `n d h w` -> the sum over scales `n d h w` (no gradient) and, per scale, the bits as smooth
        functions of the latent `n d h_k w_k` in -1..1 (with gradient). The statistics move towards this batch."""
        self._check(latent)
        total = torch.zeros_like(latent)
        soft = []
        sizes = self.scales(*latent.shape[-2:])
        for scale, cells in enumerate(sizes):
            residual, row = down(latent - total, cells), self._row(scale, sizes)
            self.levels.update(residual.detach(), row)
            soft.append(self.levels.soft(residual, row))
            total = total + up(self.levels.value(self.levels.bit(residual.detach(), row), row), latent.shape[-2:])
        return total, tuple(soft)

    def prefix(self, bits: int) -> "MultiscaleResidualQuantizer":
        """The quantizer of the first `bits` channels (a copy): it gives the same bits for them."""
        levels = self.levels.prefix(bits)
        small = MultiscaleResidualQuantizer(self.levels.num_scales, bits, self.schedule)
        small.levels = levels
        return small

    def _row(self, scale: int, sizes: tuple[tuple[int, int], ...]) -> int:
        """Where the statistics of a scale of a grid stand."""
        return self.schedule.row(scale, len(sizes), self.levels.num_scales)

    def _check(self, latent: Tensor) -> None:
        if latent.ndim != 4 or latent.shape[1] != self.bits:
            raise ValueError(f"latent has shape {tuple(latent.shape)}, which must be n {self.bits} h w; use this quantizer's tokenizer")
