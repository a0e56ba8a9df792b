"""A run of a tensor's elements as boxes: what shares state by flat pieces hands them out without gathering anything.

    elements 2 … 9 of a `3 4` tensor  ->  (0, 2) of 1 2,   (1, 0) of 1 4,   (2, 0) of 1 2

Ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

from ernie5.parallel.shards import Shape


def boxes(shape: Shape, start: int, stop: int) -> Iterator[tuple[Shape, Shape]]:
    """The elements start … stop - 1 of a tensor in row-major order as boxes (where, how large), in that order; few: 2 per dimension."""
    if start >= stop:
        return
    if len(shape) <= 1:
        yield ((start,), (stop - start,)) if shape else ((), ())
        return
    row = math.prod(shape[1:])
    first, last = -(-start // row), stop // row  # whole rows
    if first > last:
        yield from _row(shape, last, start - last * row, stop - last * row)
        return
    yield from _row(shape, first - 1, start - (first - 1) * row, row) if start < first * row else ()
    if first < last:
        yield (first, *(0,) * (len(shape) - 1)), (last - first, *shape[1:])
    yield from _row(shape, last, 0, stop - last * row)


def _row(shape: Shape, index: int, start: int, stop: int) -> Iterator[tuple[Shape, Shape]]:
    return (((index, *at), (1, *size)) for at, size in boxes(shape[1:], start, stop))
