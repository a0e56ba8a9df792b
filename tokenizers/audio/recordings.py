"""Recordings of any length, read when they are needed: a place is decoded at its first use and kept while memory allows.

    piece i of step t:  stream(seed, purpose, t) -> place, start, loudness        so every batch is a function of (seed, t) alone
A place may hold no sound, or a damaged one: then the next one is drawn. Every piece is brought to a loudness that is drawn as well, so
that quiet recordings teach as much as loud ones; it is never raised above full scale, nor by more than `MOST_GAIN_DB`.
Ours. Letters: n pieces, s samples.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.run.random_streams import stream

MOST_DRAWS = 1000
MOST_GAIN_DB = 30.0


class Recordings:
    """`count` places; `read(place)` gives the sounds there, float `s` each, none where it is damaged. At most `cache_bytes` are kept."""

    def __init__(self, read: Callable[[int], Sequence[Tensor]], count: int, cache_bytes: int) -> None:
        self.read, self.count, self.cache_bytes = read, count, cache_bytes
        self.kept: OrderedDict[int, Sequence[Tensor]] = OrderedDict()
        self.num_bytes = 0

    @classmethod
    def of(cls, sounds: Sequence[Tensor]) -> Recordings:
        """Sounds that are in memory."""
        return cls(lambda place: [sounds[place]], len(sounds), 0)

    def __getitem__(self, place: int) -> Sequence[Tensor]:
        if place in self.kept:
            self.kept.move_to_end(place)
            return self.kept[place]
        sounds = [sound for sound in self.read(place) if len(sound)]
        size = sum(sound.numel() * sound.element_size() for sound in sounds)
        if size <= self.cache_bytes:
            self.kept[place], self.num_bytes = sounds, self.num_bytes + size
            while self.num_bytes > self.cache_bytes:
                _, oldest = self.kept.popitem(last=False)
                self.num_bytes -= sum(sound.numel() * sound.element_size() for sound in oldest)
        return sounds

    def draw(self, random: np.random.Generator) -> Tensor:
        """A random sound. ValueError where hardly any place holds one."""
        for _ in range(MOST_DRAWS if self.count else 0):
            sounds = self[int(random.integers(0, self.count))]
            if len(sounds):
                return sounds[int(random.integers(0, len(sounds)))]
        raise ValueError(f"no readable sound in {MOST_DRAWS if self.count else 0} draws from {self.count} places; "
                         "name sources that hold recordings, and look at the damage with ernie5 data verify")

    def batch(self, seed: int, purpose: str, step: int, *, count: int, length: int, loudness_db: tuple[float, float]) -> Tensor:
        """`count` pieces `n s` of `length` samples; what is shorter is followed by silence."""
        random = stream(seed, purpose, step)
        pieces = []
        for _ in range(count):
            sound = self.draw(random)
            start = int(random.integers(0, max(0, len(sound) - length) + 1))
            piece = at_loudness(sound[start:start + length].float(), float(random.uniform(*loudness_db)))
            pieces.append(F.pad(piece, (0, length - len(piece))))
        return torch.stack(pieces)


def at_loudness(sound: Tensor, loudness_db: float) -> Tensor:
    """Float `s` with this mean square, as far as full scale and `MOST_GAIN_DB` allow; silence stays."""
    mean_square = float(sound.square().mean())
    if mean_square <= 0:
        return sound
    gain = min(10 ** (loudness_db / 20) / mean_square**0.5, 10 ** (MOST_GAIN_DB / 20), 1 / float(sound.abs().max()))
    return sound * gain
