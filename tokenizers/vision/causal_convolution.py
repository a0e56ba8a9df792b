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


class FrameNorm(nn.GroupNorm):
    """Group norm of every frame by itself (a norm over time would let the future in). `n t c h w` -> same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])
