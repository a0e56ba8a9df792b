"""The judge of clips: colour and shape over all frames, motion from the path of the centre of mass. Plain signal code.

    motion = direction of the least-squares slope of (x, y) over time, "stays still" below 5 px over the clip
"""

from __future__ import annotations

import torch
from einops import rearrange, reduce
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import COLOURS, MOTIONS, SHAPES
from ernie5.data_pipelines.synthetic.find_object import UNCLEAR, find_objects
from ernie5.data_pipelines.synthetic.judge_image import MIN_SIMILARITY
from ernie5.data_pipelines.synthetic.render_clip import DIRECTION

MIN_TRAVEL = 5.0       # pixels over the whole clip; moving shapes travel 11 to 13
MIN_VISIBLE = 2 / 3    # share of frames that must show an object
MIN_FRAMES = 3         # below, there is no motion to see


def judge_clips(pixels: Tensor) -> list[dict[str, str]]:
    """uint8 `n t c h w` -> the attributes of each clip; "unclear" where no object, no known shape or no path is seen."""
    num_clips, num_frames = pixels.shape[:2]
    found = find_objects(rearrange(pixels, "n t c h w -> (n t) c h w"))
    per_clip = {"t": num_frames}
    seen = rearrange(found.visible.float(), "(n t) -> n t", **per_clip)
    share = rearrange(seen / seen.sum(1, keepdim=True).clamp_min(1), "n t -> (n t) 1")       # weight of each frame
    colour = reduce(found.colour * share, "(n t) c -> n c", "sum", **per_clip).argmin(1)
    similarity = reduce(found.similarity * rearrange(share, "nt 1 -> nt 1 1"), "(n t) s r -> n s r", "sum", **per_clip)
    best, shape = similarity.amax(2).max(1)                                                  # one radius for the whole clip
    travel = torch.stack([_travel(rearrange(path, "(n t) -> n t", **per_clip), seen) for path in (found.x, found.y)], 1)  # n 2
    visible = seen.mean(1) > MIN_VISIBLE
    return [
        {
            "shape": SHAPES[shape[i]] if visible[i] and best[i] > MIN_SIMILARITY else UNCLEAR,
            "colour": COLOURS[colour[i]] if visible[i] else UNCLEAR,
            "motion": _motion(travel[i]) if visible[i] and num_frames >= MIN_FRAMES else UNCLEAR,
        }
        for i in range(num_clips)
    ]


def _travel(path: Tensor, weight: Tensor) -> Tensor:
    """Weighted least-squares slope of `n t` over time, times the length of the clip: pixels, `n`."""
    time = torch.linspace(-0.5, 0.5, path.shape[1])
    total = weight.sum(1, keepdim=True).clamp_min(1e-6)
    time = time - (weight * time).sum(1, keepdim=True) / total
    path = path - (weight * path).sum(1, keepdim=True) / total
    return (weight * time * path).sum(1) / (weight * time * time).sum(1).clamp_min(1e-6)


def _motion(travel: Tensor) -> str:
    if travel.norm() < MIN_TRAVEL:
        return MOTIONS[-1]
    return max(MOTIONS[:-1], key=lambda motion: float(torch.dot(travel, torch.tensor(DIRECTION[motion]).float())))
