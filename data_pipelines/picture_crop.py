"""Which part of a picture the model gets, and at which size: the largest centred window of the wanted aspect, or another one inside it.

    aspect = w / h * stretch;   window = zoom * the largest window of this aspect;   corner = (x, y) * (picture - window),  x, y in 0..1

Ours. Letters: h, w the wanted size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from ernie5.data_pipelines.media_limits import VisionSize


@dataclass(frozen=True)
class Crop:
    """`zoom`: the kept part of the sides, above 0 to 1. `stretch`: how much wider than the wanted aspect the window is, before both are
    scaled to one size. `x`, `y`: 0 = left, top; 1 = right, bottom.
    """

    zoom: float = 1.0
    stretch: float = 1.0
    x: float = 0.5
    y: float = 0.5

    @property
    def detail(self) -> float:
        """How much larger a picture must be decoded, so that the window has as many pixels as the whole would have without it."""
        return max(self.stretch, 1 / self.stretch) / self.zoom

    def of_whole(self, picture_aspect: float, size: VisionSize) -> "Crop":
        """The same, with the whole picture as the largest window, whatever its aspect."""
        return replace(self, stretch=self.stretch * picture_aspect * size.height / size.width)

    def on_its_side(self) -> "Crop":
        """For a picture that is stored lying and is turned afterwards."""
        return replace(self, stretch=1 / self.stretch)


CENTRE = Crop()


def fit(image: Image.Image, size: VisionSize, pixel_aspect: float = 1.0, crop: Crop = CENTRE) -> Image.Image:
    """The window, scaled to `size` with an antialiasing filter. `pixel_aspect`: width / height of a pixel."""
    width, height = image.width * pixel_aspect, float(image.height)
    kept_width = min(width, height * size.width / size.height * crop.stretch) / pixel_aspect * crop.zoom
    kept_height = min(height, width * size.height / size.width / crop.stretch) * crop.zoom
    left, top = (image.width - kept_width) * crop.x, (image.height - kept_height) * crop.y
    box = (left, top, min(left + kept_width, image.width), min(top + kept_height, image.height))  # rounding must not leave the picture
    return image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box)


def native_size(width: int, height: int, max_pixels: int, unit: int) -> VisionSize:
    """A picture's own size, scaled down where it has more than `max_pixels`, with sides that are the nearest multiples of `unit`, one at
    least. A picture so thin that this gives too many pixels loses some of its length.
    """
    scale = min(1.0, math.sqrt(max_pixels / (width * height)))
    rows, columns = (max(1, math.floor(side * scale / unit + 0.5)) for side in (height, width))
    most = max(1, max_pixels // unit**2)
    if rows * columns > most:
        rows, columns = (max(1, min(rows, most // columns)), columns) if rows >= columns else (rows, max(1, min(columns, most // rows)))
    return VisionSize(height=rows * unit, width=columns * unit)


def nearest(sizes: Sequence[VisionSize], width: int, height: int) -> VisionSize:
    """The size whose aspect differs least from that of a picture, as a ratio; the first of equals."""

    def apart(size: VisionSize) -> float:
        a, b = width * size.height, height * size.width
        return max(a, b) / min(a, b)

    return min(sizes, key=apart)
