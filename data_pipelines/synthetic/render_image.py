"""Pictures: one flat-coloured shape on a light background, 32 x 32.

    picture = background (1 - coverage) + colour coverage + noise
Jitter: centre +-1.25 px, radius +-0.2 px, background 0.92..0.98, colour +-0.03, noise sd 0.01 (of [0, 1]).
"""

from __future__ import annotations

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import COLOURS, Combination
from ernie5.data_pipelines.synthetic.shapes import PICTURE_SIZE, coverage

PALETTE = dict(zip(COLOURS, (
    (0.90, 0.10, 0.10), (0.10, 0.75, 0.15), (0.15, 0.25, 0.95), (0.95, 0.85, 0.10), (0.85, 0.15, 0.85), (0.10, 0.85, 0.90),
), strict=True))
RADIUS = {"small": 4.4, "big": 6.6}                      # pixels
CENTRE = {"left": 8.5, "right": 23.5, "top": 8.5, "bottom": 23.5}
CENTRE_JITTER, RADIUS_JITTER, COLOUR_JITTER, NOISE = 1.25, 0.2, 0.03, 0.01


def render_image(combination: Combination, generator: np.random.Generator) -> Tensor:
    """One picture: uint8 `1 c h w`, c = RGB. Everything but the attributes is drawn from `generator`."""
    vertical, horizontal = combination["position"].split()
    jitter = generator.uniform(-1, 1, 3)
    cx = torch.tensor([CENTRE[horizontal] + CENTRE_JITTER * jitter[0]])
    cy = torch.tensor([CENTRE[vertical] + CENTRE_JITTER * jitter[1]])
    radius = torch.tensor([RADIUS[combination["size"]] + RADIUS_JITTER * jitter[2]])
    return paint(coverage(combination["shape"], cx, cy, radius), combination["colour"], generator)


def paint(shape: Tensor, colour: str, generator: np.random.Generator) -> Tensor:
    """Coverage `t h w` -> uint8 `t c h w`: one background and one shade for all frames, fresh noise in each."""
    background = generator.uniform(0.92, 0.98)
    shade = torch.tensor(PALETTE[colour]) + torch.from_numpy(generator.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3))
    noise = generator.standard_normal((len(shape), 3, PICTURE_SIZE, PICTURE_SIZE), dtype=np.float32)
    share = rearrange(shape, "t h w -> t 1 h w")
    picture = background + share * (rearrange(shade.float(), "c -> 1 c 1 1") - background) + NOISE * torch.from_numpy(noise)
    return (picture.clamp(0, 1) * 255).round().to(torch.uint8)
