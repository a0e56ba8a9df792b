"""Unified multimodal attention: grouped-query, QK-normed, rotated by Uni-RoPE, under the next-group mask.

Report: §2.1 (one attention for all modalities). Ours: decision 1 (QK-norm, no biases).
Letters: B rows, S positions, D width, H heads, C head width.
"""

from __future__ import annotations

from einops import rearrange
from torch import Tensor, nn

from ernie5.model.attention_mask import AttentionMask
from ernie5.model.cache import LayerCache
from ernie5.model.config import ModelConfig
from ernie5.uni_rope import rotate


class Attention(nn.Module):
    """x `B S D` -> `B S D`."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.query = nn.Linear(config.dim, config.num_heads * config.head_dim, bias=False)
        self.key = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.value = nn.Linear(config.dim, config.num_kv_heads * config.head_dim, bias=False)
        self.query_norm = nn.RMSNorm(config.head_dim)
        self.key_norm = nn.RMSNorm(config.head_dim)
        self.out = nn.Linear(config.num_heads * config.head_dim, config.dim, bias=False)

    def forward(self, x: Tensor, turn: Tensor, mask: AttentionMask, cache: LayerCache | None = None) -> Tensor:
        q, k, v = (rearrange(project(x), "b s (h c) -> b h s c", c=self.head_dim) for project in (self.query, self.key, self.value))
        q, k = rotate(self.query_norm(q), turn), rotate(self.key_norm(k), turn)
        if cache is not None:
            k, v = cache.extend(k, v)
        return self.out(rearrange(mask.attend(q, k, v), "b h s c -> b s (h c)"))
