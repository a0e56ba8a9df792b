"""The scale schedule of a latent grid: 1 x 1, then growing by octaves cut into `per_doubling` equal steps, until the grid itself.

    sides   2^o (1 + i / n) where whole, o = 0, 1, …, i = 0 .. n - 1, below max(h, w); then max(h, w)            n = per_doubling
    cells   (h_k, w_k) = max(1, round((h, w) * side_k / max(h, w)))
    n = 1   1 2 4 8 16                 4 x 8 -> (1, 1) (1, 2) (2, 4) (4, 8): the aspect is kept as far as whole cells allow
    n = 2   1 2 3 4 6 8 12 16          n = 4   1 2 3 4 5 6 7 8 10 12 14 16

A side is left out when the last one is less than `last_growth` times as long: a grid of 17 then ends 12, 17 and not 12, 16, 17.
Report: §2.2.3 (next-frame-and-scale prediction). Ours: the formula; the first scale is always 1 x 1 (the end of a frame is predicted
there). Letters: h w latent grid, K scales.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MAX_PER_DOUBLING = 8


@dataclass(frozen=True)
class ScaleConfig:
    """The numbers of the formula. `share`: which scales of grids of different sizes share the quantizer's statistics: those of the same
    number from the first (`side`), or the first ones, and all others of the same number from the last (`cell`: equally large cells).
    """

    per_doubling: int = 1
    last_growth: float = 1.0
    share: Literal["side", "cell"] = "side"

    def __post_init__(self) -> None:
        if not 1 <= self.per_doubling <= MAX_PER_DOUBLING:
            raise ValueError(f"scales.per_doubling = {self.per_doubling} must be 1 to {MAX_PER_DOUBLING}; 1 doubles, 2 gives 1 2 3 4 6 8")
        if not 1 <= self.last_growth <= 2:
            raise ValueError(f"scales.last_growth = {self.last_growth} must be 1 (every side counts) to 2; for example 1.2")

    def row(self, scale: int, num_scales: int, num_rows: int) -> int:
        """Where the statistics of scale number `scale` of `num_scales` stand in a table of `num_rows`."""
        return scale if self.share == "side" or scale == 0 else num_rows - num_scales + scale


DOUBLING = ScaleConfig()


def scale_schedule(height: int, width: int, config: ScaleConfig = DOUBLING) -> tuple[tuple[int, int], ...]:
    """(h_k, w_k) of every scale for a latent grid of height x width cells, coarse to fine; the last is the grid itself."""
    if height < 1 or width < 1:
        raise ValueError(f"latent grid = {height} x {width} must be at least 1 x 1; use media of at least one patch a side")
    longest, steps = max(height, width), config.per_doubling
    sides = [1]
    for number in range(1, steps * longest.bit_length()):
        octave, step = divmod(number, steps)
        side, rest = divmod(2**octave * (steps + step), steps)
        if not rest and side < longest:
            sides.append(side)
    while len(sides) > 1 and longest < config.last_growth * sides[-1]:
        del sides[-1]
    if longest > 1:
        sides.append(longest)

    def cells(length: int, side: int) -> int:
        return max(1, (2 * length * side + longest) // (2 * longest))  # round half up, in whole numbers

    return tuple((cells(height, side), cells(width, side)) for side in sides)
