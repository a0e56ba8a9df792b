"""Batches of pictures or clips for tokenizer training: which media a step sees is a pure function of (seed, purpose, step).

Media of different shapes are never mixed in a batch: each step draws a shape (by how many media have it), then media of that shape.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.run.random_streams import stream


class MediaBatches:
    """`media`: uint8 `t c h w` each. Drawing is with replacement."""

    def __init__(self, media: Sequence[Tensor], batch: int, *, seed: int, purpose: str) -> None:
        self.media, self.batch, self.seed, self.purpose = media, batch, seed, purpose
        self.by_shape: dict[tuple[int, ...], list[int]] = {}
        for i, medium in enumerate(media):
            self.by_shape.setdefault(tuple(medium.shape), []).append(i)

    def draw(self, step: int) -> Tensor:
        """The batch of a step: uint8 `n t c h w`."""
        generator = stream(self.seed, self.purpose, step)
        first = int(generator.integers(len(self.media)))  # a uniform medium has each shape in proportion
        same = self.by_shape[tuple(self.media[first].shape)]
        return torch.stack([self.media[same[i]] for i in generator.integers(len(same), size=self.batch)])
