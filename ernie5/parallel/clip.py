"""The gradient norm over parameters of which ranks hold parts, and clipping by it.

    norm = sqrt( sum over parts of |part|^2 / number of processes that hold it, summed over the world )

Every rank gets the same number, finite or not, so all take the same decision. Ours.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from ernie5.parallel.parts import local
from ernie5.parallel.world import World


@torch.no_grad()
def clip_by_world_norm(gradients: Iterable[tuple[Tensor, int]], clip: float, world: World) -> Tensor:
    """(gradient, on how many processes the same part lies) -> the norm before clipping; gradients are scaled in place to at most `clip`."""
    pairs = [(local(gradient), copies) for gradient, copies in gradients]
    squares = torch.zeros((), dtype=torch.float64, device=world.device)
    for gradient, copies in pairs:
        squares += torch.linalg.vector_norm(gradient, dtype=torch.float64) ** 2 / copies
    norm = world.sum(squares).sqrt().float()
    factor = (clip / (norm + 1e-6)).clamp(max=1.0)
    for gradient, _ in pairs:
        gradient *= factor.to(gradient.dtype)
    return norm
