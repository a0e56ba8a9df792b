"""Attention among the cells of one frame, for the lowest level of a large autoencoder.

    x + project(softmax(q k^T / sqrt(c / heads)) v),     q, k, v = 1 x 1 convolutions of the normed map

Never across frames: a frame's code stays a function of the past alone, and chunk-wise work needs no further state.
Report: silent. Letters: n clips, t frames, c channels, h w cells.
"""

from __future__ import annotations

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.vision.causal_convolution import CausalConv


class CellAttention(nn.Module):
    """`n t c h w` -> same; starts as the identity."""

    def __init__(self, norm: nn.Module, channels: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm
        self.inputs = CausalConv(channels, 3 * channels, 1)
        self.output = CausalConv(channels, channels, 1)
        nn.init.zeros_(self.output.weight)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _, h, w = x.shape
        q, k, v = rearrange(self.inputs(self.norm(x)), "n t (part a c) h w -> part (n t) a (h w) c", part=3, a=self.heads)
        y = F.scaled_dot_product_attention(q, k, v)                                        # (n t) a (h w) c
        return x + self.output(rearrange(y, "(n t) a (h w) c -> n t (a c) h w", n=n, h=h, w=w))
