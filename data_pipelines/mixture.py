"""Which sample comes next: a pure function of the seed and of how many were drawn before.

    draw n:  source ~ weights by stream(seed, "mixture", n);   its j-th sample = permutation of epoch j // len at j % len

The state is a few counters, free of ranks and workers. Ours: sampling with replacement between sources, without inside an epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from ernie5.run.random_streams import stream


class Draw(NamedTuple):
    """One drawn sample: its number in the global stream, its source and its place there."""

    number: int
    source: str
    place: int


@dataclass
class Mixture:
    """`sizes` samples and `weights` per source (weights need not sum to 1)."""

    sizes: dict[str, int]
    weights: dict[str, float]
    seed: int
    drawn: int = 0
    per_source: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        empty = [name for name, size in self.sizes.items() if size == 0 and self.weights[name] > 0]
        if empty:
            raise ValueError(f"data.sources.{empty[0]} holds no sample; give it data, or weight 0")
        if not any(w > 0 for w in self.weights.values()) or any(w < 0 for w in self.weights.values()):
            raise ValueError(f"data weights {self.weights} must be >= 0 and not all 0")

    def draw(self) -> Draw:
        """The next sample of the stream."""
        names = sorted(self.weights)
        odds = np.array([self.weights[n] for n in names], dtype=np.float64)
        place = stream(self.seed, "mixture", self.drawn).random() * odds.sum()
        name = names[min(int(np.searchsorted(odds.cumsum(), place, side="right")), len(names) - 1)]
        count = self.per_source.get(name, 0)
        epoch, offset = divmod(count, self.sizes[name])
        index = int(_permutation(self.seed, name, epoch, self.sizes[name])[offset])
        draw = Draw(self.drawn, name, index)
        self.drawn += 1
        self.per_source[name] = count + 1
        return draw


@lru_cache(maxsize=64)
def _permutation(seed: int, source: str, epoch: int, size: int) -> np.ndarray:
    return stream(seed, "epoch", source, epoch).permutation(size)
