"""One bit per channel: is the residual above its running mean? The value of a bit is where such residuals lie on average.

    mu = EMA of mean(r),  s = EMA of mean(|r - mu|)      per scale and channel
    bit = [r > mu],       value(bit) = mu + (2 bit - 1) s

Centring on the running mean keeps every bit alive without an entropy loss: about half of the residuals lie on each side.
Nothing mixes channels, so the first d_i channels keep their bits whatever channels follow: the nested series of growing widths.
Report: §2.2.1 (bit-wise quantization, a series of growing bit widths). Ours: running statistics instead of a learned magnitude.
Letters: K scales, d bits, n items, h w cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

MOMENTUM = 0.1


class BitwiseQuantizer(nn.Module):
    """Bits of a residual and the values that bits stand for, for each of K scales; statistics are buffers, there are no weights."""

    mean: Tensor       # K d
    magnitude: Tensor  # K d
    updates: Tensor    # K, int64

    def __init__(self, num_scales: int, bits: int) -> None:
        super().__init__()
        self.bits = bits
        self.num_scales = num_scales
        self.momentum = MOMENTUM
        self.register_buffer("mean", torch.zeros(num_scales, bits))
        self.register_buffer("magnitude", torch.ones(num_scales, bits))
        self.register_buffer("updates", torch.zeros(num_scales, dtype=torch.int64))

    def bit(self, residual: Tensor, scale: int) -> Tensor:
        """residual `n d h w` -> bits `n d h w`, bool."""
        return residual > self.mean[scale][:, None, None]

    def value(self, bits: Tensor, scale: int) -> Tensor:
        """bits `n d h w` (bool or 0 / 1) -> the values that they stand for, `n d h w` float32."""
        mean, magnitude = self.mean[scale][:, None, None], self.magnitude[scale][:, None, None]
        return torch.where(bits > 0, mean + magnitude, mean - magnitude)

    def soft(self, residual: Tensor, scale: int) -> Tensor:
        """The bits as a smooth function of the residual `n d h w`: -1..1, 0 at the border between the two values."""
        mean, magnitude = self.mean[scale].clone(), self.magnitude[scale].clone()  # they move before the backward pass
        return ((residual - mean[:, None, None]) / magnitude[:, None, None].clamp_min(1e-6)).tanh()

    @torch.no_grad()
    def update(self, residual: Tensor, scale: int) -> None:
        """Move the statistics of a scale towards a batch of residuals `n d h w` (training of the tokenizer only)."""
        self.updates[scale] += 1
        momentum = max(self.momentum, 1.0 / int(self.updates[scale]))  # plain averages first, so that the start values never matter
        self.mean[scale].lerp_(residual.mean((0, 2, 3)), momentum)
        deviation = (residual - self.mean[scale][:, None, None]).abs().mean((0, 2, 3))
        self.magnitude[scale].lerp_(deviation, momentum)

    def prefix(self, bits: int) -> "BitwiseQuantizer":
        """The quantizer of the first `bits` channels (a copy): it gives the same bits for them."""
        if not 1 <= bits <= self.bits:
            raise ValueError(f"bits = {bits} must lie in 1..{self.bits}, the width of this quantizer; use a smaller prefix")
        small = BitwiseQuantizer(self.num_scales, bits).to(self.mean.device)
        small.load_state_dict({"mean": self.mean[:, :bits], "magnitude": self.magnitude[:, :bits], "updates": self.updates})
        return small
