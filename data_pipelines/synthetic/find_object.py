"""The first half of both judges of vision: where an object is, how it looks, and how well each shape fits it.

    background = median of the border      contrast = |pixel - background|, in units of the object's own colour
    similarity = cosine between the contrast around its centre of mass and a template of the shape
Templates: 4 shapes x 15 radii x 4 blurs (decoders blur) x 16 sub-pixel offsets, treated like the pictures. No network.
Letters: n pictures, h w pixels, c RGB, s shapes, r radii, o offsets, k = 25 window width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ernie5.data_pipelines.synthetic.combinations import COLOURS, SHAPES
from ernie5.data_pipelines.synthetic.render_image import PALETTE
from ernie5.data_pipelines.synthetic.shapes import centroid_offset, coverage

UNCLEAR = "unclear"              # what a judge answers when it sees or hears nothing it knows; never equal to a true value
MIN_CONTRAST = 0.25              # colour distance below which there is no object (palette colours are 0.7 or more away)
FLOOR = 0.3                      # contrast, relative to the object's, below which a pixel is background
RADII = torch.arange(2.0, 9.01, 0.5)
BLURS = (0.0, 0.7, 1.1, 1.5)     # standard deviations in pixels
WINDOW, STEPS = 25, 4            # pixels; offsets a pixel


@dataclass(frozen=True)
class Found:
    """The one object of each picture."""

    visible: Tensor      # n      bool
    x: Tensor            # n      centre of mass in pixels
    y: Tensor            # n
    colour: Tensor       # n 6    distance to each colour of the palette
    similarity: Tensor   # n s r  best over the blurs, 1 = the same


def find_objects(pixels: Tensor) -> Found:
    """pixels: uint8 `n c h w`. Raises ValueError for anything else."""
    if pixels.dtype != torch.uint8 or pixels.ndim != 4 or pixels.shape[1] != 3:
        raise ValueError(f"pixels = {pixels.dtype} {tuple(pixels.shape)} must be uint8 n 3 h w; stack RGB pictures of one size")
    picture = pixels.float() / 255
    border = torch.cat([picture[:, :, 0], picture[:, :, -1], picture[:, :, :, 0], picture[:, :, :, -1]], -1)
    background = border.median(-1).values                                                     # n c
    contrast = (picture - rearrange(background, "n c -> n c 1 1")).square().sum(1).sqrt()     # n h w
    visible = _peak(contrast) > MIN_CONTRAST
    contrast = _relative(contrast)
    mass = contrast.sum((1, 2)).clamp_min(1e-6)
    x = (contrast.sum(1) * (torch.arange(contrast.shape[2]) + 0.5)).sum(1) / mass
    y = (contrast.sum(2) * (torch.arange(contrast.shape[1]) + 0.5)).sum(1) / mass
    inside = rearrange((contrast - 0.6).clamp_min(0), "n h w -> n 1 h w")                     # the rim is mixed with background
    colour = (picture * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1e-6)              # n c
    palette = torch.tensor([PALETTE[name] for name in COLOURS])
    return Found(visible, x, y, torch.cdist(colour, palette), _similarity(contrast, x, y))


def _peak(contrast: Tensor) -> Tensor:
    return contrast.flatten(1).topk(12, dim=1).values.mean(1)                                 # n


def _relative(contrast: Tensor) -> Tensor:
    """Contrast in units of the object's own, without the background: `n h w`."""
    contrast = contrast / rearrange(_peak(contrast).clamp_min(1e-6), "n -> n 1 1")
    return torch.where(contrast < FLOOR, 0.0, contrast)


def _similarity(contrast: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Compare every object, cut out around its centre of mass, with the templates of its sub-pixel offset: `n s r`."""
    padded = F.pad(contrast, (WINDOW // 2,) * 4)
    windows = padded.unfold(1, WINDOW, 1).unfold(2, WINDOW, 1)                                # n h w k k
    row, column = y.long().clamp_max(contrast.shape[1] - 1), x.long().clamp_max(contrast.shape[2] - 1)
    cut = F.normalize(windows[torch.arange(len(x)), row, column].flatten(1), dim=1)           # n k*k
    offset = ((y - row) * STEPS).long() * STEPS + ((x - column) * STEPS).long()
    similarity = torch.empty(len(x), _templates().shape[1])
    for o in offset.unique().tolist():
        similarity[offset == o] = cut[offset == o] @ _templates()[o].T
    return rearrange(similarity, "n (blur s r) -> n blur s r", blur=len(BLURS), s=len(SHAPES)).amax(1)


@cache
def _templates() -> Tensor:
    """Unit vectors `o blur*s*r k*k`: every shape with its centre of mass at each sub-pixel offset of the window's middle."""
    steps = (torch.arange(STEPS) + 0.5) / STEPS + WINDOW // 2
    y, x = torch.meshgrid(steps, steps, indexing="ij")
    centre_y, centre_x, radius = torch.broadcast_tensors(y.reshape(-1, 1), x.reshape(-1, 1), RADII)     # o r
    crisp = torch.stack([coverage(s, centre_x, centre_y - centroid_offset(s, radius), radius, WINDOW) for s in SHAPES], 1)
    flat = rearrange(crisp, "o s r h w -> (o s r) h w")
    bank = torch.stack([_relative(gaussian_blur(flat, sigma)) for sigma in BLURS])            # blur osr h w
    bank = rearrange(bank, "b (o s r) h w -> o (b s r) (h w)", s=len(SHAPES), r=len(RADII))
    return F.normalize(bank, dim=2)


def gaussian_blur(pictures: Tensor, sigma: float) -> Tensor:
    """Blur float `n h w` by a Gaussian of `sigma` pixels; the border is repeated outwards. sigma = 0 changes nothing."""
    if sigma == 0:
        return pictures
    half = int(4 * sigma) + 1
    kernel = torch.exp(-0.5 * (torch.arange(-half, half + 1) / sigma).square())
    kernel = kernel / kernel.sum()
    padded = F.pad(pictures[:, None], (half,) * 4, mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, None, :]), kernel[None, None, :, None])[:, 0]
