"""Another view of a sample in every draw: another window of its pictures, another speed of its sounds, one of its captions.

    crop             window = sqrt(U(area)) x the largest of the wanted aspect x exp(U(log aspect)), anywhere in the picture
    speed            sounds played U(1 - speed, 1 + speed) times as fast, tempo and pitch together, before they are cut
    caption          one of several texts that stand beside one medium; all of them are equally likely
    aspect_buckets   no draw: further sizes beside data.limits.image_size; an image gets the size whose aspect is nearest to its own

`data.augment`, all off by default. The view is a pure function of (seed, number of the draw). Held-out data and what tokenizers are
trained on has no draws; the latter comes in its buckets. Nothing is mirrored: captions say left and right.
Ours: all of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ernie5.data_pipelines.media_limits import VisionSize
from ernie5.data_pipelines.picture_crop import CENTRE, Crop
from ernie5.sequence import Modality, Segment

MAX_SPEED = 0.5
MAX_STRETCH = 2.0


@dataclass(frozen=True)
class CropConfig:
    """`area`: from which to which part of the largest window of the wanted aspect. `aspect`: from how much narrower to how much wider."""

    area: tuple[float, float] = (0.5, 1.0)
    aspect: tuple[float, float] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if not 0.01 <= self.area[0] <= self.area[1] <= 1:
            raise ValueError(f"area = {list(self.area)} must be a range inside 0.01 to 1, parts of the largest window; e.g. [0.5, 1]")
        if not 1 / MAX_STRETCH <= self.aspect[0] <= 1 <= self.aspect[1] <= MAX_STRETCH:
            raise ValueError(f"aspect = {list(self.aspect)} must be a range around 1, inside {1 / MAX_STRETCH} to {MAX_STRETCH}; "
                             "e.g. [0.9, 1.1]")


@dataclass(frozen=True)
class AugmentConfig:
    """`crop`: null = the largest window, in the centre. `speed`: 0 = off, 0.1 = 0.9 to 1.1 times as fast."""

    crop: CropConfig | None = None
    speed: float = 0.0
    caption: bool = False
    aspect_buckets: tuple[VisionSize, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.speed <= MAX_SPEED:
            raise ValueError(f"speed = {self.speed} must be 0 to {MAX_SPEED}: how much faster or slower a sound may become; e.g. 0.1")
        for i, size in enumerate(self.aspect_buckets):
            self._differs(i, size, self.aspect_buckets[:i])

    @property
    def on(self) -> bool:
        """Whether anything is changed at all."""
        return self != AugmentConfig()

    @property
    def draws(self) -> bool:
        """Whether a sample is another one in every draw."""
        return self.changes_lengths or self.crop is not None

    @property
    def changes_lengths(self) -> bool:
        """Whether it may have another number of positions in every draw; a crop keeps its size."""
        return self.caption or self.speed > 0

    def check(self, image_size: VisionSize, stride: int) -> None:
        """Raise ValueError for sizes that a vision tokenizer of this stride cannot take, or that no picture would get."""
        for i, size in enumerate(self.aspect_buckets):
            if size.height % stride or size.width % stride:
                raise ValueError(f"data.augment.aspect_buckets[{i}] = {size.height} x {size.width} must have sides that are multiples of "
                                 f"{stride}, the stride of tokenizers.vision; use for example {_up(size.height, stride)} x "
                                 f"{_up(size.width, stride)}")
            if size != image_size:
                self._differs(i, size, (image_size,))

    def view(self, random: np.random.Generator) -> "View":
        """What to decode in one draw."""
        # every number is drawn for every sample, so that switching one thing on changes no other
        area, aspect, x, y, tape, pick = (float(number) for number in random.random(6))
        crop = CENTRE
        if self.crop is not None:
            (least, most), (narrow, wide) = self.crop.area, (math.log(side) for side in self.crop.aspect)
            crop = Crop(math.sqrt(least + (most - least) * area), math.exp(narrow + (wide - narrow) * aspect), x, y)
        return View(crop, 1 + self.speed * (2 * tape - 1), 1 + self.speed, pick if self.caption else None, self.aspect_buckets)

    def _differs(self, number: int, size: VisionSize, others: tuple[VisionSize, ...]) -> None:
        for other in others:
            if size.height * other.width == other.height * size.width:
                raise ValueError(f"data.augment.aspect_buckets[{number}] = {size.height} x {size.width} has the aspect of "
                                 f"{other.height} x {other.width}, so no picture would get it; take it away or give it another aspect")


@dataclass(frozen=True)
class View:
    """How a sample is to be decoded: `crop` of all its pictures, `speed` of its sounds (`fastest`: of any draw), `sizes` that its images
    may have beside the usual one. `caption`: which of several texts to keep, from 0 to below 1; None = all. `native`: above 0, images
    keep their own sizes, with sides that are multiples of it, and are only read.
    """

    crop: Crop = CENTRE
    speed: float = 1.0
    fastest: float = 1.0
    caption: float | None = None
    sizes: tuple[VisionSize, ...] = ()
    native: int = 0


PLAIN = View()


def one_caption(segments: tuple[Segment, ...], pick: float) -> tuple[Segment, ...]:
    """One text of several that stand side by side before or after the only medium. Documents of several media keep all their texts."""
    texts = [i for i, segment in enumerate(segments) if segment.modality is Modality.TEXT]
    side_by_side = len(texts) > 1 and texts[-1] - texts[0] == len(texts) - 1
    if not side_by_side or len(segments) != len(texts) + 1:
        return segments
    return (*segments[: texts[0]], segments[texts[int(pick * len(texts))]], *segments[texts[-1] + 1 :])


def _up(side: int, stride: int) -> int:
    return -(-side // stride) * stride
