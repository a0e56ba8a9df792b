"""Which sample comes next: a pure function of the seed, of how many were drawn before and of what every source is owed.

    every draw:  owed_s += share_s,  share_s ~ weight_s * size_s ^ (1 / temperature);   source ~ max(owed, 0);   owed_source -= 1
    its j-th sample = place_of(epoch j // size, j % size)

What is owed sums to 0 and stays above -1, so after any n draws a source has given less than 1 sample more than its share, and at most
(sources - 1) less. Shares are whole 2^-40ths, so nothing rounds. Weights may change at any draw: counters stay, so inside an epoch no
sample repeats and none is left out. A source that leaves (weight 0, epochs given) begins the account anew. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import NamedTuple

from ernie5.data_pipelines.epoch_order import place_of
from ernie5.run.random_streams import stream

ONE = 2**40     # one sample, in the units of accounts
BLOCK = 1024    # random numbers made at a time


class Draw(NamedTuple):
    """One drawn sample: its number in the global stream, its source and its place there."""

    number: int
    source: str
    place: int


class EndOfData(Exception):
    """Every source of the mixture has given all its epochs."""


@dataclass
class Mixture:
    """`sizes` samples and `weights` per source (weights need not sum to 1). `epochs`: how often a source may be gone through, by name
    (absent = without end; 1.5 = once and a half). `temperature`: weights are multiplied by size ^ (1 / temperature).
    """

    sizes: dict[str, int]
    weights: dict[str, float]
    seed: int
    drawn: int = 0
    per_source: dict[str, int] = field(default_factory=dict)
    owed: dict[str, int] = field(default_factory=dict)
    epochs: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None

    def __post_init__(self) -> None:
        self.reweigh(self.weights, self.temperature)
        for name, number in self.epochs.items():
            if number <= 0:
                raise ValueError(f"data.sources.{name}.epochs = {number} must be above 0; leave it out for a source without end")

    def reweigh(self, weights: Mapping[str, float], temperature: float | None) -> None:
        """Other weights from the next draw on. ValueError for weights that say nothing."""
        unknown = weights.keys() - self.sizes.keys()
        if unknown:
            raise ValueError(f"weights name the source {min(unknown)!r}, which is not in data.sources ({', '.join(self.sizes)})")
        empty = [name for name, size in self.sizes.items() if size == 0 and weights.get(name, 0) > 0]
        if empty:
            raise ValueError(f"data.sources.{empty[0]} holds no sample; give it data, or weight 0")
        if not any(w > 0 for w in weights.values()) or not all(0 <= w < float("inf") for w in weights.values()):
            raise ValueError(f"data weights {dict(weights)} must be numbers >= 0 and not all 0")
        if temperature is not None and not 0 < temperature < float("inf"):
            raise ValueError(f"data.temperature = {temperature} must be above 0: 1 draws by size, larger values more evenly")
        self.weights, self.temperature = dict(weights), temperature
        self._shares: dict[str, int] | None = None

    def copy(self) -> "Mixture":
        """One that draws the same from here on."""
        return replace(self, per_source=dict(self.per_source), owed=dict(self.owed))

    def limit(self, source: str) -> float:
        """How many samples the source gives in all."""
        return max(1, round(self.epochs[source] * self.sizes[source])) if source in self.epochs else float("inf")

    def draw(self) -> Draw:
        """The next sample of the stream. EndOfData when there is none."""
        shares = self._begin() if self._shares is None else self._shares
        owed = self.owed
        total = 0
        for name, share in shares.items():
            owed[name] += share
            total += max(owed[name], 0)
        place = int(_chances(self.seed, self.drawn // BLOCK)[self.drawn % BLOCK]) * total >> 63  # 0 <= place < total
        for name in shares:
            place -= max(owed[name], 0)
            if place < 0:
                break
        owed[name] -= ONE
        count = self.per_source.get(name, 0)
        epoch, offset = divmod(count, self.sizes[name])
        draw = Draw(self.drawn, name, place_of(self.seed, name, epoch, self.sizes[name], offset))
        self.drawn += 1
        self.per_source[name] = count + 1
        if count + 1 >= self.limit(name):
            self._shares = None
        return draw

    def _begin(self) -> dict[str, int]:
        """The shares of the sources that still give, in 2^-40ths, by name."""
        odds = {name: self._odds(name) for name in sorted(self.weights)
                if self.weights[name] > 0 and self.per_source.get(name, 0) < self.limit(name)}
        if not odds:
            given = ", ".join(f"{name} {self.per_source.get(name, 0):,}" for name in self.sizes if self.weights.get(name, 0) > 0)
            raise EndOfData(f"all sources have given their data.sources.*.epochs (samples drawn: {given})")
        if any(owed and name not in odds for name, owed in self.owed.items()):
            self.owed.clear()
        for name in odds:
            self.owed.setdefault(name, 0)
        total = sum(odds.values())
        shares = {name: max(1, round(odd / total * ONE)) for name, odd in odds.items()}
        shares[max(shares, key=lambda name: shares[name])] += ONE - sum(shares.values())
        self._shares = shares
        return shares

    def _odds(self, name: str) -> float:
        largest = max(self.sizes.values())
        return self.weights[name] * ((self.sizes[name] / largest) ** (1 / self.temperature) if self.temperature else 1.0)


@lru_cache(maxsize=4)
def _chances(seed: int, block: int) -> list[int]:
    """63 random bits for each of the draws of a block."""
    return stream(seed, "mixture", "block", block).integers(0, 2**63, BLOCK).tolist()
