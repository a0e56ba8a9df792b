"""Boxes of a tensor: where the parts of a tensor lie in the whole, and whether together they hold every element exactly once.

A box is `at` (where it begins) and `shape`. Bounded in time for any input: manifests come from disk. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

Shape = tuple[int, ...]
Box = tuple[Shape, Shape]  # at, shape

_LARGEST = 2**48          # elements of one tensor
_MOST_WORK = 5_000_000    # visits of a box by `check_cover`; honest manifests need a few per box


def intersection(one: Box, other: Box) -> Box | None:
    """What two boxes of one tensor share, None when that is nothing. Two scalars share their one element."""
    at = tuple(max(a, b) for a, b in zip(one[0], other[0], strict=True))
    end = tuple(min(a + n, b + m) for a, n, b, m in zip(*one, *other, strict=True))
    shape = tuple(e - a for a, e in zip(at, end, strict=True))
    return (at, shape) if all(n > 0 for n in shape) else None


def slices(box: Box, origin: Shape) -> tuple[slice, ...]:
    """The box as an index into a tensor whose first element lies at `origin`."""
    return tuple(slice(a - o, a - o + n) for a, n, o in zip(*box, origin, strict=True))


def check_shape(shape: Shape) -> None:
    """ValueError for sizes that no tensor has."""
    if len(shape) > 64 or any(n < 0 for n in shape) or math.prod(shape) > _LARGEST:
        raise ValueError(f"no tensor has the shape {list(shape)[:8]}")


def check_cover(shape: Shape, boxes: Sequence[Box]) -> None:
    """ValueError unless the boxes hold every element of a tensor of `shape` exactly once (an empty tensor: in a box of its shape)."""
    check_shape(shape)
    for at, size in boxes:
        if len(at) != len(shape) or len(size) != len(shape):
            raise ValueError(f"a part at {list(at)[:8]} of shape {list(size)[:8]} is no box of {list(shape)}")
        if any(a < 0 or n < 0 or a + n > whole for a, n, whole in zip(at, size, shape, strict=True)):
            raise ValueError(f"the part at {list(at)} of shape {list(size)} reaches beyond {list(shape)}")
    if not math.prod(shape):
        if not boxes or any(tuple(size) != tuple(shape) for _, size in boxes):
            raise ValueError(f"a part of an empty tensor must have its shape {list(shape)}")
        return
    if any(not math.prod(size) for _, size in boxes):
        raise ValueError("one of its parts is empty")
    if sum(math.prod(size) for _, size in boxes) != math.prod(shape):
        raise ValueError(f"its parts hold {sum(math.prod(size) for _, size in boxes)} of {math.prod(shape)} elements")
    _Sweep().check(shape, boxes, 0)


class _Sweep:
    """Slab by slab along one dimension; within a slab the parts must cover the remaining dimensions."""

    def __init__(self) -> None:
        self.work = 0

    def check(self, shape: Shape, boxes: Sequence[Box], dim: int) -> None:
        if dim == len(shape):
            if len(boxes) != 1:
                raise ValueError(f"an element is in {len(boxes)} parts; each must be in exactly one")
            return
        if all(size[dim] == shape[dim] for _, size in boxes):  # nothing is cut along this one
            return self.check(shape, boxes, dim + 1)
        cuts = sorted({0, shape[dim], *(at[dim] for at, _ in boxes), *(at[dim] + size[dim] for at, size in boxes)})
        waiting = sorted(boxes, key=lambda box: box[0][dim], reverse=True)
        active: list[Box] = []
        for start in cuts[:-1]:
            active = [box for box in active if box[0][dim] + box[1][dim] > start]
            while waiting and waiting[-1][0][dim] == start:
                active.append(waiting.pop())
            self.work += 1 + len(active)
            if self.work > _MOST_WORK:
                raise ValueError(f"its {len(boxes)} parts lie in a way that no plan makes")
            self.check(shape, active, dim + 1)
