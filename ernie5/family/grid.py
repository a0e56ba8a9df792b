"""Which sub-models a grid holds: layers x experts x top-k, those that the user names or a few of each.

    layers {L, 3/4 L, fewest}    experts {E, 3/4 E, E/2}    top_k {k, k/2, k/4, 1}

Ours (the report's tables 9-11 vary one axis at a time).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import product

from ernie5.family.keep_experts import Size
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import always_kept

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """Values that the user named; None = the few above."""

    layers: tuple[int, ...] | None = None
    experts: tuple[int, ...] | None = None
    top_k: tuple[int, ...] | None = None

    def sizes(self, config: ModelConfig, num_codebooks: int, blocks: int) -> list[Size]:
        """The full model and all that exist, largest first. ValueError for a value that fits into no sub-model; combinations with more
        experts per token than experts are left out, with a warning when the user named them.
        """
        full = Size.full(config)
        for size in (*(Size(n, full.experts, 1) for n in self.layers or ()), *(Size(full.layers, n, 1) for n in self.experts or ()),
                     *(Size(full.layers, full.experts, n) for n in self.top_k or ())):
            size.check(config, num_codebooks, blocks)
        fewest = len(always_kept(config.num_layers, num_codebooks))
        layers = self.layers or (full.layers, max(fewest, -(-3 * full.layers // 4)), fewest)
        experts = self.experts or tuple(max(blocks, int(share * full.experts) // blocks * blocks) for share in (1, 0.75, 0.5))
        top_k = self.top_k or (full.top_k, max(1, full.top_k // 2), max(1, full.top_k // 4), 1)
        wanted = {Size(*values) for values in product(layers, experts, top_k)}
        there = {size for size in wanted if size.top_k <= size.experts}
        if self.experts is not None or self.top_k is not None:
            for size in sorted(wanted - there, key=Size.key):
                log.warning("left out: %s (more experts per token than experts)", size)
        return sorted(there | {full}, key=Size.key, reverse=True)
