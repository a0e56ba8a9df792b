"""Random windows of media of any size: which media a step sees, and what of them, is a pure function of (seed, purpose, step).

    size    one of `sizes` a batch; a batch of larger windows holds fewer, so that all cost about the same
    window  exp(U(log zoom)) x the largest of its aspect, never fewer pixels than the size has (unless the medium has), anywhere

Media come from a pool that reads them when asked for: number `index` may hold none of the kind (a text, a damaged file); then another one
is drawn. Ours: all of it. Letters: t frames, c channels, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.run.random_streams import stream

MAX_MISSES = 10_000  # draws in a row without a medium of the kind


@dataclass(frozen=True)
class Window:
    """What is wanted of one medium. `zoom`: part of the sides of the largest window of the aspect; `x`, `y`: 0 = left or top, 1 = right or
    bottom. `pick`: which of several media that one number holds, from 0 to below 1.
    """

    height: int
    width: int
    zoom: float = 1.0
    x: float = 0.5
    y: float = 0.5
    mirror: bool = False
    pick: float = 0.0

    def part(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Top, left, height and width of the window in a medium of `height x width` pixels."""
        share = min(height / self.height, width / self.width)  # pixels of the medium per pixel wanted, of the largest window
        share = max(share * self.zoom, min(1.0, share))
        h, w = (min(side, max(1, round(wanted * share))) for side, wanted in ((height, self.height), (width, self.width)))
        return round((height - h) * self.y), round((width - w) * self.x), h, w


class MediaPool(Protocol):
    """Media by number, read when drawn."""

    def __len__(self) -> int: ...

    def window(self, index: int, window: Window) -> Tensor | None:
        """uint8 `t 3 height width`; None where number `index` holds no such medium."""


@dataclass(frozen=True)
class WindowConfig:
    """`sizes` of pictures and `clip_sizes`, (height, width) each, are equally likely; `image_batch` and `video_clips` count those of the
    first. `more_sizes`: of pictures that are not trained on; they only give the bits of larger grids their statistics.
    `zoom`: the range. `mirror`: half of the media. `cache_gib`: memory for decoded pictures.
    """

    sizes: tuple[tuple[int, int], ...] = ((256, 256),)
    clip_sizes: tuple[tuple[int, int], ...] = ((128, 128),)
    more_sizes: tuple[tuple[int, int], ...] = ()
    zoom: tuple[float, float] = (0.3, 1.0)
    mirror: bool = True
    cache_gib: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.zoom[0] <= self.zoom[1] <= 1:
            raise ValueError(f"windows.zoom = {list(self.zoom)} must be a range inside 0 to 1, parts of a side; for example [0.3, 1]")
        if not self.sizes or not self.clip_sizes:
            raise ValueError("windows.sizes and windows.clip_sizes must name one size or more; for example [[256, 256], [192, 320]]")

    def check(self, stride: int, temporal_stride: int) -> None:
        """ValueError for sizes that a tokenizer of this stride cannot take."""
        for key in ("sizes", "clip_sizes", "more_sizes"):
            for height, width in getattr(self, key):
                if height < stride or width < stride or height % stride or width % stride:
                    raise ValueError(f"windows.{key} has {height} x {width}, which must be multiples of the stride = {stride}; use for "
                                     f"example {max(1, height // stride) * stride} x {max(1, width // stride) * stride}")


class MemoryPool:
    """Media that are in memory: uint8 `t 3 h w` of any sizes."""

    def __init__(self, media: Sequence[Tensor]) -> None:
        self.media = media

    def __len__(self) -> int:
        return len(self.media)

    def window(self, index: int, window: Window) -> Tensor | None:
        medium = self.media[index]
        top, left, height, width = window.part(*medium.shape[-2:])
        part = medium[..., top:top + height, left:left + width].float()
        if (height, width) != (window.height, window.width):
            part = F.interpolate(part, (window.height, window.width), mode="bilinear", antialias=True)
        return (part.flip(-1) if window.mirror else part).round().clamp(0, 255).to(torch.uint8)


class FirstFrames:
    """The pictures of a pool of clips: the first frame of each."""

    def __init__(self, clips: MediaPool) -> None:
        self.clips = clips

    def __len__(self) -> int:
        return len(self.clips)

    def window(self, index: int, window: Window) -> Tensor | None:
        found = self.clips.window(index, window)
        return None if found is None else found[:1]


class WindowBatches:
    """`draw(step)`: a batch of windows. `sizes`: of `config`, those of pictures or of clips."""

    def __init__(self, pool: MediaPool, config: WindowConfig, sizes: Sequence[tuple[int, int]], batch: int, *, seed: int,
                 purpose: str) -> None:
        self.pool, self.config, self.sizes, self.batch, self.seed, self.purpose = pool, config, sizes, batch, seed, purpose

    def draw(self, step: int) -> Tensor:
        """The batch of a step: uint8 `n t 3 h w`, clips cut to the shortest. ValueError when the pool holds nothing that can be read."""
        random = stream(self.seed, self.purpose, step)
        height, width = self.sizes[int(random.integers(len(self.sizes)))]
        first_height, first_width = self.sizes[0]
        count = max(1, round(self.batch * first_height * first_width / (height * width)))
        least, most = (log(side) for side in self.config.zoom)
        found: list[Tensor] = []
        misses = 0
        while len(found) < count:
            index = int(random.integers(len(self.pool)))
            zoom, x, y, mirror, pick = (float(number) for number in random.random(5))
            window = Window(height, width, exp(least + (most - least) * zoom), x, y, self.config.mirror and mirror < 0.5, pick)
            medium = self.pool.window(index, window)
            misses = 0 if medium is not None else misses + 1
            if misses > MAX_MISSES:
                raise ValueError(f"{self.purpose}: {misses} draws in a row found nothing that could be read; look at data.sources")
            if medium is not None:
                found.append(medium)
        shortest = min(len(medium) for medium in found)
        return torch.stack([medium[:shortest] for medium in found])
