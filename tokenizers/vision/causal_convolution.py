"""Convolutions over clips that never look ahead; on a single frame they are plain 2-D convolutions.

    CausalConv: frames padded in front with k_t - 1 zeros, so that output j ends at frame j * stride_t
    CausalUp:   each frame -> `time` frames of twice the side (shuffle); the first latent frame keeps only its last one

A single frame only meets the last temporal slice of a kernel (the rest reads the zeros in front), so a 2-D network put into the last
slices gives the very same pictures: `inflate_from`. The first frame of a clip is an image, 1 + time * j frames <-> 1 + j latent frames.
Report: §2.2.1 (inflation of a 2-D tokenizer to a causal 3-D one). Slices before the last start at zero (VideoAR: random).
Letters: n clips, t frames, c channels, h w cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class CausalConv(nn.Module):
    """`n t c h w` -> `n 1+(t-1)/time_stride c' h/stride w/stride`; weight `c' c k_t k k`."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, *, time_kernel: int = 1, stride: int = 1, time_stride: int = 1) -> None:
        super().__init__()
        self.stride, self.time_stride, self.padding = stride, time_stride, (kernel - 1) // 2
        fan_in = inputs * kernel * kernel  # of one temporal slice: what an image meets
        weight = torch.empty(outputs, inputs, time_kernel, kernel, kernel).uniform_(-(fan_in**-0.5), fan_in**-0.5)
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, x: Tensor) -> Tensor:
        n, t = x.shape[:2]
        time_kernel = self.weight.shape[2]
        if t == 1 or time_kernel == 1:
            assert t == 1 or self.time_stride == 1
            y = F.conv2d(x.flatten(0, 1), self.weight[:, :, -1], self.bias, self.stride, self.padding)
            return y.unflatten(0, (n, t))
        x = F.pad(rearrange(x, "n t c h w -> n c t h w"), (0, 0, 0, 0, time_kernel - 1, 0))
        y = F.conv3d(x, self.weight, self.bias, (self.time_stride, self.stride, self.stride), (0, self.padding, self.padding))
        return rearrange(y, "n c t h w -> n t c h w")

    @torch.no_grad()
    def inflate_from(self, image: "CausalConv") -> None:
        """Take the weights of the image model's convolution into the last temporal slice, zeros before it.

        With more outputs than the image model (`CausalUp`: a chunk of frames), the same weights serve every frame.
        """
        frames = len(self.bias) // len(image.bias)
        self.weight.zero_()
        self.weight[:, :, -1] = image.weight[:, :, -1].repeat(frames, 1, 1, 1)
        self.bias.copy_(image.bias.repeat(frames))


class CausalUp(nn.Module):
    """`n t c h w` -> `n 1+(t-1)*time c' 2h 2w`: a convolution, then channels become pixels and frames."""

    def __init__(self, inputs: int, outputs: int, *, time: int = 1) -> None:
        super().__init__()
        self.time = time
        self.conv = CausalConv(inputs, 4 * outputs * time)

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[1] == 1:  # an image is the last of the `time` frames: skip the others
            rows = len(self.conv.bias) // self.time
            y = F.conv2d(x.flatten(0, 1), self.conv.weight[-rows:, :, -1], self.conv.bias[-rows:], 1, 1)
            return F.pixel_shuffle(y, 2).unflatten(0, (len(x), 1))
        y = rearrange(self.conv(x), "n t (k c a b) h w -> n (t k) c (h a) (w b)", k=self.time, a=2, b=2)
        return y[:, self.time - 1:]


class ShortDown(nn.Module):
    """A halving convolution beside a plain path: four pixels become channels, averaged in groups to as many as there shall be; in time the
    last frame of a chunk. `n t c h w` -> `n t' c' h/2 w/2`."""

    def __init__(self, conv: CausalConv) -> None:
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) + self.plain(x[:, ::self.conv.time_stride])

    def plain(self, x: Tensor) -> Tensor:
        """The path without weights, of the frames that stay."""
        group = 4 * x.shape[2] // len(self.conv.bias)
        x = rearrange(x, "n t c (h a) (w b) -> n t (c a b) h w", a=2, b=2)
        return rearrange(x, "n t (c g) h w -> n t c g h w", g=group).mean(3)


class ShortUp(nn.Module):
    """The mirror image: channels, repeated, become four pixels; in time every frame of a chunk is the same."""

    def __init__(self, up: CausalUp) -> None:
        super().__init__()
        self.up = up

    def forward(self, x: Tensor) -> Tensor:
        return self.up(x) + self.plain(x)[:, (self.up.time - 1):]

    def plain(self, x: Tensor) -> Tensor:
        """The path without weights, `time` frames for every one."""
        up = self.up
        copies = len(up.conv.bias) // up.time // x.shape[2]
        x = x.repeat_interleave(copies, 2).repeat_interleave(up.time, 1)
        return F.pixel_shuffle(x, 2)


class CellNorm(nn.Module):
    """Every cell by itself, over its channels: x / rms(x), with a weight and a bias. A code then depends on its surroundings alone, not on
    how large the picture around them is. `n t c h w` -> same."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        scale = x.float().square().mean(2, keepdim=True).add(1e-6).rsqrt().to(x.dtype)
        return x * scale * self.weight.to(x.dtype)[:, None, None] + self.bias.to(x.dtype)[:, None, None]


class RunningNorm(nn.BatchNorm2d):
    """A batch norm without weights that uses its running statistics in training too, so that one picture a batch is enough: normalised by
    its own statistics, it would lose its mean colour. No gradient passes through the statistics. `n c h w` -> same."""

    def forward(self, x: Tensor) -> Tensor:
        mean, variance, seen = self.running_mean, self.running_var, self.num_batches_tracked
        assert mean is not None and variance is not None and seen is not None and self.momentum is not None
        if self.training:
            with torch.no_grad():
                seen.add_(1)
                share = max(self.momentum, 1.0 / int(seen))  # plain averages first
                mean.lerp_(x.mean((0, 2, 3)), share)
                variance.lerp_((x - mean[:, None, None]).square().mean((0, 2, 3)), share)
        return F.batch_norm(x, mean.clone(), variance.clone(), eps=self.eps)


class FrameNorm(nn.GroupNorm):
    """Group norm of every frame by itself (a norm over time would let the future in). `n t c h w` -> same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
