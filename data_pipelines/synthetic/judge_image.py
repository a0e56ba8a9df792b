"""The judge of pictures: reads shape, colour, size and position off the pixels with plain signal code.

    position = quadrant of the centre of mass      colour = nearest of the palette      shape, size = best template
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import COLOURS, POSITIONS, SHAPES, SIZES
from ernie5.data_pipelines.synthetic.find_object import RADII, UNCLEAR, find_objects
from ernie5.data_pipelines.synthetic.render_image import RADIUS

MIN_SIMILARITY = 0.75        # of the best template; two objects or a smear stay below
BORDER_RADIUS = sum(RADIUS.values()) / 2


def judge_images(pixels: Tensor) -> list[dict[str, str]]:
    """uint8 `n c h w` -> the attributes of each picture; "unclear" where no object or no known shape is seen."""
    found = find_objects(pixels)
    similarity, at = found.similarity.max(2)                          # n 4
    best, shape = similarity.max(1)                                   # n
    radius = RADII[at[torch.arange(len(at)), shape]]
    right, bottom = found.x > pixels.shape[3] / 2, found.y > pixels.shape[2] / 2
    known = found.visible & (best > MIN_SIMILARITY)
    colour = found.colour.argmin(1)
    return [
        {
            "shape": SHAPES[shape[i]] if known[i] else UNCLEAR,
            "colour": COLOURS[colour[i]] if found.visible[i] else UNCLEAR,
            "size": SIZES[int(radius[i] > BORDER_RADIUS)] if known[i] else UNCLEAR,
            "position": POSITIONS[int(right[i]) + 2 * int(bottom[i])] if found.visible[i] else UNCLEAR,
        }
        for i in range(len(pixels))
    ]
