"""Where a patch stands in its frame, told to the ViT: valid for any height and width.

    sines      added once, before the first layer: sin and cos of row and column, wave lengths from 2 pi to about 600 patches
    rope       queries and keys turn in every layer: half of a head's pairs with the row, half with the column

`understanding.positions`. Sines say where a patch stands in the frame, the rotation how far apart two patches are, which carries over to
frames larger than those of training.
Report: not given. Ours: both; the default is sines.
Letters: P patches, C width, c head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ernie5.uni_rope import rotate

BASE = 100.0


def sines(places: Tensor, dim: int) -> Tensor:
    """Row and column `P 2` -> float32 `P dim`."""
    frequency = BASE ** -(torch.arange(dim // 4, device=places.device) / (dim // 4))          # dim/4
    rows, columns = (places[:, axis, None] * frequency for axis in (0, 1))                    # P dim/4
    return torch.cat([rows.sin(), rows.cos(), columns.sin(), columns.cos()], -1)


class Sines(nn.Module):
    """Positions that are added to the patches."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim

    def added(self, x: Tensor, places: Tensor) -> Tensor:
        """Patches `P C` with their positions."""
        return x + sines(places, self.dim).to(x)

    def turned(self, q: Tensor, k: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys `P H c` as they are."""
        return q, k


class Rope(nn.Module):
    """Positions that turn queries and keys."""

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim

    def added(self, x: Tensor, places: Tensor) -> Tensor:
        """Patches `P C` as they are."""
        return x

    def turned(self, q: Tensor, k: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
        """Queries and keys `P H c`, turned."""
        pairs = self.head_dim // 4
        frequency = BASE ** -(torch.arange(pairs, device=places.device) / pairs)
        angles = (places[..., None] * frequency).flatten(1)                                   # P c/2: rows first
        turn = torch.polar(torch.ones_like(angles), angles).unsqueeze(1)                      # P 1 c/2
        return rotate(q, turn), rotate(k, turn)
