"""Clips: one shape that moves 12 px along an axis or stays, 9 frames of 32 x 32 at 8 frames a second.

    centre(frame) = 16 + start + direction (frame / 8 - 1/2) travel
Jitter: start +-2 px along either axis, travel 11..13 px, radius +-0.3 px; the rest as in a picture. The shape stays inside the picture.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import MOTIONS, Combination
from ernie5.data_pipelines.synthetic.render_image import paint
from ernie5.data_pipelines.synthetic.shapes import PICTURE_SIZE, coverage

NUM_FRAMES = 9
FRAME_RATE_HZ = 8
DIRECTION = dict(zip(MOTIONS, ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)), strict=True))  # (x, y), y pointing down
RADIUS, RADIUS_JITTER, START_JITTER = 5.5, 0.3, 2.0      # pixels
TRAVEL = (11.0, 13.0)


def render_clip(combination: Combination, generator: np.random.Generator) -> Tensor:
    """One clip: uint8 `t c h w`, t = 9, c = RGB. Everything but the attributes is drawn from `generator`."""
    start = PICTURE_SIZE / 2 + torch.from_numpy(generator.uniform(-START_JITTER, START_JITTER, 2))  # (x, y)
    radius = RADIUS + generator.uniform(-RADIUS_JITTER, RADIUS_JITTER)
    travel = generator.uniform(*TRAVEL)
    time = torch.linspace(-0.5, 0.5, NUM_FRAMES)                                                    # t
    x, y = (start[axis].float() + travel * step * time for axis, step in enumerate(DIRECTION[combination["motion"]]))
    shape = coverage(combination["shape"], x, y, torch.full((NUM_FRAMES,), radius))                 # t h w
    return paint(shape, combination["colour"], generator)
