"""The key-value cache of incremental generation: what earlier groups left behind, layer by layer.

A group is fed once, when it has been chosen; NCP feedback is in its keys and values like in a full forward pass.
Letters: B rows, H' key-value heads, S' cached positions, C head width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from ernie5.model.attention_mask import Where


@dataclass
class LayerCache:
    """Keys and values of one layer: `B H' S' C`."""

    key: Tensor | None = None
    value: Tensor | None = None

    def extend(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append the new positions and return all of them."""
        self.key = key if self.key is None else torch.cat([self.key, key], dim=2)
        self.value = value if self.value is None else torch.cat([self.value, value], dim=2)
        return self.key, self.value


@dataclass
class Cache:
    """One LayerCache per layer, and where the cached positions stand (for the mask)."""

    layers: list[LayerCache]
    where: Where | None = field(default=None)

    @classmethod
    def empty(cls, num_layers: int) -> "Cache":
        return cls([LayerCache() for _ in range(num_layers)])

    def extend(self, where: Where) -> Where:
        """Append positions `B S` and return all `B S'`."""
        self.where = where if self.where is None else Where(*(torch.cat(pair, dim=1) for pair in zip(self.where, where, strict=True)))
        return self.where
