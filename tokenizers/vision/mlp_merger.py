"""Patch merger without attention, the alternative to patch_merger.py: K patches seen by two encoders, side by side, through an MLP.

    r_k = gelu(W_r norm([cnn_k ; vit_k])),     token = W_out norm(gelu(W [r_1 ; … ; r_K]))

A place in the concatenation stands for a slot. Images use the first slots (K = 4 of 16); the others are zeros, as of frames of a clip
that is not there. W_r, shared by the slots, is as narrow as it takes for about as many weights as the attention merger has: without it
the first matrix alone would be several times larger. `understanding.merger: mlp`.
Report: §2.2.2 (MLP fusion of the two paths was worse; its form is not given). Ours: this form.
Letters: m groups, K patches of a group, C width of both paths, R width of a slot, D_out width of a token.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn


class MlpMerger(nn.Module):
    """Groups of at most `num_slots` patches, each seen by both paths -> one token a group."""

    def __init__(self, dim: int, out_dim: int, num_slots: int) -> None:
        super().__init__()
        self.num_slots = num_slots
        slot_dim = max(1, round((4 * dim + 2 * num_slots) / (2 + num_slots)))  # R: (2 + K) R C weights = (4 C + 2 K) C of the attention
        self.norm = nn.LayerNorm(2 * dim)
        self.slot = nn.Linear(2 * dim, slot_dim, bias=False)
        self.mix = nn.Linear(num_slots * slot_dim, dim, bias=False)
        self.out_norm = nn.LayerNorm(dim)
        self.out = nn.Linear(dim, out_dim, bias=False)
        nn.init.normal_(self.out.weight, std=dim**-0.5)  # tokens as large as text embeddings

    def forward(self, cnn: Tensor, vit: Tensor) -> Tensor:
        """cnn, vit: `m K C` -> tokens `m D_out`."""
        k = cnn.shape[1]
        if k > self.num_slots:
            raise ValueError(f"a group has {k} patches, but this merger was built for at most {self.num_slots}; use smaller chunks")
        slots = F.gelu(self.slot(self.norm(torch.cat([cnn, vit], dim=-1))))                        # m K R
        side_by_side = rearrange(F.pad(slots, (0, 0, 0, self.num_slots - k)), "m k r -> m (k r)")
        return self.out(self.out_norm(F.gelu(self.mix(side_by_side))))
