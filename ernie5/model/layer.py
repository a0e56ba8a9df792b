"""One Unified Transformer Layer: attention, then the mixture of experts, both pre-normed, both residual.

Report: Fig. 1, §2.1 (every layer is a mixture, no dense first layers). Letters: B rows, S positions, D width, R kinds, E experts.
"""

from __future__ import annotations

from torch import Tensor, nn

from ernie5.model.attention import Attention
from ernie5.model.attention_mask import AttentionMask
from ernie5.model.cache import LayerCache
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubLayer
from ernie5.model.moe import MixtureOfExperts, Routed


class UnifiedLayer(nn.Module):
    """x `B S D`, kind `B S` -> x `B S D` and what the router did in this pass."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.dim)
        self.attention = Attention(config)
        self.moe_norm = nn.RMSNorm(config.dim)
        self.moe = MixtureOfExperts(config)

    def forward(
        self, x: Tensor, turn: Tensor, mask: AttentionMask, kind: Tensor, sub: SubLayer, cache: LayerCache | None = None
    ) -> tuple[Tensor, Routed]:
        x = x + self.attention(self.attention_norm(x), turn, mask, cache)
        y, routed = self.moe(self.moe_norm(x).flatten(0, 1), kind.flatten(), sub)
        return x + y.view_as(x), routed
