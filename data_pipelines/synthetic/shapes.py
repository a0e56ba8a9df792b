"""The four shapes as anti-aliased coverage maps, from signed distances in pixels.

    coverage = clamp(1/2 - distance / edge, 0, 1)        edge = 1: crisp; wider: as if blurred
Every shape is centred in its bounding box, so that a shape of radius r stays within r * 1.08 of its centre.
Letters: h w pixels; `...` any batch of shapes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import SHAPES

PICTURE_SIZE = 32


def distance(shape: str, x: Tensor, y: Tensor, radius: Tensor | float) -> Tensor:
    """Signed distance (negative inside) to the outline at offsets `x`, `y` from the centre, in pixels, y pointing down."""
    match shape:
        case "circle":
            return (x * x + y * y).sqrt() - radius
        case "square":
            return torch.maximum(x.abs(), y.abs()) - radius * 0.88
        case "triangle":  # equilateral, apex up; inner radius 0.625 r, moved down so that its box is centred
            inner = radius * 0.625
            y = y - inner / 2
            return torch.maximum(y - inner, x.abs() * 0.866 - y * 0.5 - inner)
        case "cross":
            bar, arm = radius * 0.34, radius * 1.02
            upright = torch.maximum(x.abs() - bar, y.abs() - arm)
            level = torch.maximum(y.abs() - bar, x.abs() - arm)
            return torch.minimum(upright, level)
    raise ValueError(f"shape = {shape!r} is not in the demo world; use one of {', '.join(SHAPES)}")


def centroid_offset(shape: str, radius: Tensor | float) -> Tensor | float:
    """How far below the centre the centre of mass lies, in pixels (only the triangle is not symmetric)."""
    return radius * 0.3125 if shape == "triangle" else radius * 0.0


def coverage(shape: str, cx: Tensor, cy: Tensor, radius: Tensor, size: int = PICTURE_SIZE, edge: float = 1.0) -> Tensor:
    """Share of every pixel that the shape covers. cx, cy, radius: `...` in pixels -> float `... h w` in [0, 1]."""
    centres = torch.arange(size) + 0.5                     # h
    x = centres[None, :] - cx[..., None, None]             # ... 1 w
    y = centres[:, None] - cy[..., None, None]             # ... h 1
    return (0.5 - distance(shape, x, y, radius[..., None, None]) / edge).clamp(0, 1)
