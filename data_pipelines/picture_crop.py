"""Which part of a picture the model gets: the largest window of the wanted aspect, or a smaller one, anywhere in it.

    window = zoom * largest window of the aspect;   its corner = (x, y) * (picture - window),   x, y in 0..1

Ours. Letters: h, w the wanted size.
"""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ernie5.data_pipelines.media_limits import VisionSize


@dataclass(frozen=True)
class Crop:
    """`zoom`: the kept part of the sides, above 0 to 1. `x`, `y`: 0 = left, top; 1 = right, bottom."""

    zoom: float = 1.0
    x: float = 0.5
    y: float = 0.5


CENTRE = Crop()


def fit(image: Image.Image, size: VisionSize, pixel_aspect: float = 1.0, crop: Crop = CENTRE) -> Image.Image:
    """The window, scaled to `size` with an antialiasing filter. `pixel_aspect`: width / height of a pixel."""
    width, height = image.width * pixel_aspect, float(image.height)
    kept_width = min(width, height * size.width / size.height) / pixel_aspect * crop.zoom
    kept_height = min(height, width * size.height / size.width) * crop.zoom
    left, top = (image.width - kept_width) * crop.x, (image.height - kept_height) * crop.y
    box = (left, top, min(left + kept_width, image.width), min(top + kept_height, image.height))  # rounding must not leave the picture
    return image.resize((size.width, size.height), Image.Resampling.LANCZOS, box=box)
