"""Uni-RoPE: every position stands at (t, h, w); text and audio stand on the diagonal, pictures on a centred grid.

    text, audio:  t = h = w = p                              p counts on along the document
    scale k:      t = p0 + frame,  h = p0 + (y + 0.5) H/H_k - 0.5,  w likewise: all scales cover the same extent
    rotation:     pair i of a head turns by coordinate[axis(i)] * base^(-i / (C/2))

Report: §2.2.3 (unified coordinates, centre-aligned scales). Ours: decision 7: of every 32 pairs, h 11 and w 11 alternate on the
high frequencies and t 10 takes the lowest, as ERNIE-4.5-VL does; after a medium the index goes on at max(t, h, w) + 1.
Letters: N positions, C head width, H W reference grid, h w grid of one scale.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


def line_coords(start: int, length: int) -> Tensor:
    """Text or audio: `N 3` with t = h = w = start, start + 1, …"""
    return _line(1 << max(16, (start + length - 1).bit_length()))[start : start + length]


@lru_cache(maxsize=4)  # a view of one long line costs a sixth of a new one
def _line(length: int) -> Tensor:
    return torch.arange(length, dtype=torch.float32)[:, None].expand(-1, 3)


@lru_cache(maxsize=256)
def _unit_grid(height: int, width: int, scale_height: int, scale_width: int) -> Tensor:
    h = (torch.arange(scale_height) + 0.5) * height / scale_height - 0.5
    w = (torch.arange(scale_width) + 0.5) * width / scale_width - 0.5
    h, w = torch.meshgrid(h, w, indexing="ij")
    return torch.stack([torch.zeros_like(h), h, w], dim=-1).reshape(-1, 3)  # h*w 3, row-major


def grid_coords(origin: int, frame: int, reference: tuple[int, int], scale: tuple[int, int]) -> Tensor:
    """One scale of one frame: `N 3`, row-major, centred on the reference grid whose corner stands at `origin`."""
    grid = _unit_grid(*reference, *scale) + origin
    grid[:, 0] += frame
    return grid


def index_after(coords: Tensor) -> int:
    """The running index that follows a medium: floor(max) + 1."""
    return int(coords.max()) + 1


@lru_cache(maxsize=16)
def _axes_and_frequencies(head_dim: int, base: float) -> tuple[Tensor, Tensor]:
    num_pairs = head_dim // 2
    num_spatial = round(num_pairs * 22 / 32)
    axes = torch.tensor([1 + i % 2 if i < num_spatial else 0 for i in range(num_pairs)])
    return axes, base ** (-torch.arange(num_pairs, dtype=torch.float32) / num_pairs)


def rotation(coords: Tensor, head_dim: int, base: float) -> Tensor:
    """coords `B S 3` -> the turn of every pair as a unit complex number `B 1 S C/2`, complex64."""
    axes, frequencies = _axes_and_frequencies(head_dim, base)
    angles = coords[..., axes.to(coords.device)] * frequencies.to(coords.device)  # B S C/2
    return torch.polar(torch.ones_like(angles), angles).unsqueeze(1)


def rotate(x: Tensor, turn: Tensor) -> Tensor:
    """Turn neighbouring pairs of `x: B H S C` by `turn: B 1 S C/2`; one complex product in float32, returned in x's dtype."""
    pairs = torch.view_as_complex(x.float().unflatten(-1, (-1, 2)))  # B H S C/2
    return torch.view_as_real(pairs * turn).flatten(-2).to(x.dtype)
