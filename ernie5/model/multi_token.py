"""Multi-token prediction: one extra module that looks at the next token and predicts the one after it.

    h'_i = layer( W [ norm(h_i) ; norm(E[t_{i+1}]) ] ),    logits = text head(norm(h'_i))  ->  t_{i+2}

Only text positions read a next token and have a target; the others pass through so that the attention mask stays the same. The pair
(next, next but one) comes with the batch, never from a shift of the tensor: packing borders would break it.
Report: §2.1, §3.2 (loss weight 0.3, later 0.1). Ours: decision 20 (one DeepSeek-V3-style module). Letters: B rows, S positions, D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ernie5.model.attention_mask import AttentionMask
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubLayer
from ernie5.model.layer import UnifiedLayer
from ernie5.model.moe import Routed
from ernie5.sequence import PackedSequence


class MultiToken(nn.Module):
    """x `B S D` after the last layer -> hidden `m D` at the text targets that have a next target, and what the router did."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.hidden_norm = nn.RMSNorm(config.dim)
        self.next_norm = nn.RMSNorm(config.dim)
        self.mix = nn.Linear(2 * config.dim, config.dim, bias=False)
        self.layer = UnifiedLayer(config)
        self.out_norm = nn.RMSNorm(config.dim)

    def forward(
        self, x: Tensor, packed: PackedSequence, text_table: nn.Embedding, turn: Tensor, mask: AttentionMask, sub: SubLayer
    ) -> tuple[Tensor, Routed]:
        has_next = packed.next_target >= 0
        positions = packed.text_target_at[has_next]
        next_read = self.next_norm(text_table(packed.text_target[has_next])).to(x.dtype)  # m D
        reads = torch.zeros_like(x).flatten(0, 1).index_copy(0, positions, next_read).view_as(x)
        y = self.mix(torch.cat([self.hidden_norm(x), reads], dim=-1))
        y, routed = self.layer(y, turn, mask, packed.kind, sub)
        return self.out_norm(y.flatten(0, 1).index_select(0, positions)), routed
