"""What can be shown and heard in the demo world, and which of it is never seen in training.

A combination is one value for every attribute of a kind:
    image  4 shapes x 6 colours x 2 sizes x 4 positions   = 192
    video  4 shapes x 6 colours x 5 motions               = 120
    audio  3 timbres x 10 pitches x 5 beep counts         = 150
Ours: with few combinations a small model memorises them; with these it must compose (docs/experiments.md).
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

from ernie5.run.random_streams import stream

SHAPES = ("circle", "square", "triangle", "cross")
COLOURS = ("red", "green", "blue", "yellow", "magenta", "cyan")
SIZES = ("small", "big")
POSITIONS = ("top left", "top right", "bottom left", "bottom right")
MOTIONS = ("moves left", "moves right", "moves up", "moves down", "stays still")
TIMBRES = ("sine", "square", "saw")
PITCHES = ("a3", "c4", "eb4", "gb4", "a4", "c5", "eb5", "gb5", "a5", "c6")  # minor thirds; flats, so that a name is one word
BEEPS = ("one", "two", "three", "four", "five")

ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "image": {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "position": POSITIONS},
    "video": {"shape": SHAPES, "colour": COLOURS, "motion": MOTIONS},
    "audio": {"timbre": TIMBRES, "pitch": PITCHES, "beeps": BEEPS},
}
KINDS = tuple(ATTRIBUTES)


@dataclass(frozen=True)
class Combination:
    """One value for every attribute of `kind`, in the order of `ATTRIBUTES[kind]`."""

    kind: str
    values: tuple[str, ...]

    @property
    def attributes(self) -> dict[str, str]:
        """`{"shape": "circle", "colour": "red", ...}`"""
        return dict(zip(ATTRIBUTES[self.kind], self.values, strict=True))

    def __getitem__(self, attribute: str) -> str:
        return self.attributes[attribute]


@dataclass(frozen=True)
class Split:
    """Combinations of one kind: those for training, and those that only evaluation sees."""

    train: tuple[Combination, ...]
    heldout: tuple[Combination, ...]


def all_combinations(kind: str) -> tuple[Combination, ...]:
    """Every combination of a kind ("image", "video" or "audio"), in table order."""
    if kind not in ATTRIBUTES:
        raise ValueError(f"kind = {kind!r} is not in the demo world; use one of {', '.join(KINDS)}")
    return tuple(Combination(kind, values) for values in itertools.product(*ATTRIBUTES[kind].values()))


def split_combinations(kind: str, seed: int) -> Split:
    """Hold out a tenth of the combinations; every *pair* of values keeps at least two thirds of its combinations for training.

    The held-out part spreads evenly over the values, so that answering always the same pays as little as possible.
    """
    combinations = all_combinations(kind)
    shares = [len(values) for values in ATTRIBUTES[kind].values()]  # a value of place i is in 1 of shares[i] combinations
    shuffled = [combinations[i] for i in stream(seed, "heldout", kind).permutation(len(combinations))]
    heldout: set[Combination] = set()
    counts: Counter = Counter()  # of the values and pairs held out so far
    for _ in range(len(combinations) // 10):
        allowed = [c for c in shuffled if c not in heldout and _pairs_stay_in_training(c, counts, shares)]
        rarest = min(allowed, key=lambda c: sum(counts[place] * shares[place[0]] for place in enumerate(c.values)))
        heldout.add(rarest)
        counts.update(enumerate(rarest.values))
        counts.update(_pairs(rarest))
    return Split(tuple(c for c in combinations if c not in heldout), tuple(c for c in combinations if c in heldout))


def _pairs_stay_in_training(combination: Combination, counts: Counter, shares: list[int]) -> bool:
    total = math.prod(shares)
    return all(3 * (counts[(a, b)] + 1) <= total // (shares[a[0]] * shares[b[0]]) for a, b in _pairs(combination))


def _pairs(combination: Combination) -> tuple[tuple[tuple[int, str], tuple[int, str]], ...]:
    return tuple(itertools.combinations(enumerate(combination.values), 2))
