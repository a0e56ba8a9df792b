"""Attention-based patch merger: K patches seen by two encoders become one token.

    z = MHSA([cnn W + e_cnn ; vit + e_vit])  over the 2K vectors of a group,      token = norm(mean(z)) W_out

e = one learned vector per path and slot: without it the group would be a set and the place of a patch would be lost.
Report: §2.2.2 (K = 4: 2 x 2 patches of an image; K = 16: 2 x 2 patches of 4 frames). Slots are shared: frame 0 of a chunk is an image.
Letters: m groups, K patches of a group, C width of the attention, D_out width of a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class PatchMerger(nn.Module):
    """Groups of at most `num_slots` patches, each seen by both paths -> one token a group."""

    def __init__(self, dim: int, out_dim: int, num_heads: int, num_slots: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.slots = nn.Parameter(torch.randn(2, num_slots, dim) * 0.3)  # path, slot; small ones leave a group a set for long
        self.norm = nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.mix = nn.Linear(dim, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, out_dim, bias=False)
        nn.init.normal_(self.out.weight, std=dim**-0.5)  # tokens as large as text embeddings

    def forward(self, cnn: Tensor, vit: Tensor) -> Tensor:
        """cnn, vit: `m K C` -> tokens `m D_out`."""
        k = cnn.shape[1]
        if k > self.slots.shape[1]:
            raise ValueError(f"a group has {k} patches, but this merger was built for at most {self.slots.shape[1]}; use smaller chunks")
        x = torch.cat([cnn + self.slots[0, :k], vit + self.slots[1, :k]], dim=1)                              # m 2K C
        q, key, v = rearrange(self.qkv(self.norm(x)), "m k (three h c) -> three m h k c", three=3, h=self.num_heads)
        mixed = F.scaled_dot_product_attention(q, key, v)
        x = x + self.mix(rearrange(mixed, "m h k c -> m k (h c)"))
        return self.out(self.out_norm(x.mean(1)))
