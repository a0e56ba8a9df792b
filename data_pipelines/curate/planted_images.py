"""Pictures that are distinct, and the copies that a curation should notice: the ground truth for `planted`.

A picture is 3 x 3 to 4 x 4 objects of the demo world side by side, 192 x 192 or 256 x 256 pixels. The demo world's own pictures would
be no ground truth: two of the same combination differ by a pixel or less, as copies do.
Ours: all of it.
"""

from __future__ import annotations

from io import BytesIO

import numpy as np
from einops import rearrange
from PIL import Image, ImageEnhance

from ernie5.data_pipelines.synthetic.combinations import all_combinations
from ernie5.data_pipelines.synthetic.render_image import render_image

_TILE = 64
CHANGES = ("recompressed", "smaller", "larger", "cropped", "brighter", "darker")


def real_picture(random: np.random.Generator) -> Image.Image:
    """One picture."""
    combinations, side = all_combinations("image"), int(random.integers(3, 5))
    picture = Image.new("RGB", (_TILE * side,) * 2)
    for place in range(side * side):
        tile = rearrange(render_image(combinations[random.integers(len(combinations))], random), "1 c h w -> h w c").numpy()
        at = (_TILE * (place % side), _TILE * (place // side))
        picture.paste(Image.fromarray(tile).resize((_TILE, _TILE), Image.Resampling.BICUBIC), at)
    return picture


def changed(picture: Image.Image, change: str, random: np.random.Generator) -> tuple[str, bytes]:
    """A near copy, one of `CHANGES`, as (extension, file)."""
    width, height = picture.size
    match change:
        case "recompressed":
            return encoded(picture, "JPEG", quality=int(random.integers(30, 80)))
        case "smaller" | "larger":
            scale = random.uniform(0.4, 0.9) if change == "smaller" else random.uniform(1.1, 2.0)
            picture = picture.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
        case "cropped":  # 1 to 3 % of each side, roughly centred
            left, top, right, bottom = random.uniform(0.005, 0.015, 4)
            picture = picture.crop((round(left * width), round(top * height), round(width * (1 - right)), round(height * (1 - bottom))))
        case "brighter" | "darker":
            factor = random.uniform(1.05, 1.2) if change == "brighter" else random.uniform(0.8, 0.95)
            picture = ImageEnhance.Brightness(picture).enhance(factor)
        case _:
            raise AssertionError(change)
    return encoded(picture, "JPEG", quality=90)


def encoded(picture: Image.Image, kind: str, quality: int = 95, compress_level: int = 6) -> tuple[str, bytes]:
    """(extension, file) of a JPEG or PNG."""
    file = BytesIO()
    if kind == "JPEG":
        picture.save(file, kind, quality=quality)
    else:
        picture.save(file, kind, compress_level=compress_level)
    return {"JPEG": "jpg", "PNG": "png"}[kind], file.getvalue()
