"""Experts that take at most so many rows at a time, so that unbalanced routing cannot run out of memory: no token is dropped.

    rows sorted by expert: | e0 e0 e0 e1 | e1 e1 e2 e2 | e2 e3 |      pieces of `most_rows` = 4; an expert may be in two of them

Rows that fit are one piece, as without the lever. Else every piece keeps its inputs and runs again in the backward pass: at any time the
inner rows of one piece are in memory. A piece writes the gradient of all experts' weights, so pieces should be thousands of rows.
Report: §5.1 (sub-batches of experts). Letters: M rows, E experts, D width.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from ernie5.model.experts import Experts
from ernie5.parallel.again import Recomputed, again


class ExpertsInPieces(Experts):
    """In front of experts: x `M D` sorted by expert, counts `E` (sum M) -> `M D`."""

    most_rows: int

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        run = super().forward
        if len(x) <= self.most_rows:
            return run(x, counts)
        piece = run if isinstance(self, Recomputed) else partial(again, run)
        ends, outputs = counts.cumsum(0), []                               # E
        for start in range(0, len(x), self.most_rows):
            inside = ends.clamp(start, start + self.most_rows)
            here = inside.diff(prepend=inside.new_tensor([start]))         # E  rows of each expert in this piece
            outputs.append(piece(x[start : start + self.most_rows], here))
        return torch.cat(outputs)
