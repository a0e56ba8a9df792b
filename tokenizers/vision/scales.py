"""The scale schedule of a latent grid: 1 x 1, then doubling until the grid itself.

    side_k = 1, 2, 4, ... < max(h, w), then max(h, w);   (h_k, w_k) = max(1, round((h, w) * side_k / max(h, w)))

So 4 x 4 -> (1, 1) (2, 2) (4, 4), and 4 x 8 -> (1, 1) (1, 2) (2, 4) (4, 8): the aspect is kept as far as whole cells allow.
Report: §2.2.3 (next-frame-and-scale prediction). Ours: the first scale is always 1 x 1 (the end of a frame is predicted there).
"""

from __future__ import annotations


def scale_schedule(height: int, width: int) -> tuple[tuple[int, int], ...]:
    """(h_k, w_k) of every scale for a latent grid of height x width cells, coarse to fine; the last is the grid itself."""
    if height < 1 or width < 1:
        raise ValueError(f"latent grid = {height} x {width} must be at least 1 x 1; use media of at least one patch a side")
    longest = max(height, width)
    sides = [1]
    while sides[-1] < longest:
        sides.append(min(2 * sides[-1], longest))

    def cells(length: int, side: int) -> int:
        return max(1, (2 * length * side + longest) // (2 * longest))  # round half up, in whole numbers

    return tuple((cells(height, side), cells(width, side)) for side in sides)
