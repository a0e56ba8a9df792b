"""Parts of a tensor hold every element exactly once, or are refused, quickly."""

import itertools

import numpy as np
import pytest

from ernie5.run.boxes import check_cover, intersection
from ernie5.run.random_streams import stream

GOOD = {
    "whole": ((3, 4), [((0, 0), (3, 4))]),
    "scalar": ((), [((), ())]),
    "rows": ((5, 4), [((2, 0), (3, 4)), ((0, 0), (2, 4))]),
    "columns": ((5, 4), [((0, 0), (5, 1)), ((0, 1), (5, 3))]),
    "pinwheel": ((3, 3), [((0, 0), (1, 2)), ((0, 2), (2, 1)), ((2, 1), (1, 2)), ((1, 0), (2, 1)), ((1, 1), (1, 1))]),
    "flat ranges": ((4, 4), [((0, 0), (1, 3)), ((0, 3), (1, 1)), ((1, 0), (2, 4)), ((3, 0), (1, 1)), ((3, 1), (1, 3))]),
    "empty": ((0, 4), [((0, 0), (0, 4))]),
}
BAD = {
    "nothing": ((3, 4), []),
    "a hole": ((3, 4), [((0, 0), (2, 4))]),
    "twice": ((3, 4), [((0, 0), (3, 4)), ((0, 0), (3, 4))]),
    "a hole and an overlap of its size": ((4,), [((0,), (2,)), ((1,), (2,))]),
    "overlap inside": ((4, 4), [((0, 0), (4, 2)), ((0, 1), (4, 2))]),
    "negative begin": ((4,), [((-1,), (4,)), ((3,), (1,))]),
    "negative shape": ((4,), [((0,), (-4,))]),
    "beyond": ((4,), [((2,), (4,))]),
    "too few dimensions": ((4, 1), [((0,), (4,))]),
    "huge": ((2**40, 2**40), [((0, 0), (2**40, 2**40))]),
    "many dimensions": ((1,) * 65, [((0,) * 65, (1,) * 65)]),
    "an empty part": ((4,), [((0,), (4,)), ((4,), (0,))]),
    "an empty tensor in nothing": ((0,), []),
    "two scalars": ((), [((), ()), ((), ())]),
}


@pytest.mark.parametrize("name", GOOD)
def test_parts_that_are_a_whole(name) -> None:
    shape, boxes = GOOD[name]
    for order in itertools.permutations(boxes):
        check_cover(shape, order)


@pytest.mark.parametrize("name", BAD)
def test_parts_that_are_none(name) -> None:
    with pytest.raises(ValueError):
        check_cover(*BAD[name])


def test_random_parts_against_counting() -> None:
    good = 0
    for i in range(400):
        rng = stream(0, "boxes", i)
        shape = tuple(int(n) for n in rng.integers(1, 5, size=3))
        boxes = [((0,) * 3, shape)]
        for _ in range(int(rng.integers(0, 6))):  # cut a box in two, and sometimes move one part a little
            at, size = boxes.pop(int(rng.integers(len(boxes))))
            dim = int(rng.integers(3))
            first = int(rng.integers(0, size[dim] + 1))
            lower = tuple(first if d == dim else n for d, n in enumerate(size))
            upper = tuple(n - first if d == dim else n for d, n in enumerate(size))
            boxes += [(at, lower), (tuple(a + first if d == dim else a for d, a in enumerate(at)), upper)]
        boxes = [box for box in boxes if np.prod(box[1])]
        if rng.random() < 0.5:
            at, size = boxes.pop()
            dim = int(rng.integers(3))
            boxes.append((tuple(max(0, a - 1) if d == dim else a for d, a in enumerate(at)), size))
        count = np.zeros(shape, int)
        for at, size in boxes:
            count[tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))] += 1
        if (count == 1).all():
            check_cover(shape, boxes)
            good += 1
        else:
            with pytest.raises(ValueError):
                check_cover(shape, boxes)
    assert 100 < good < 390


def test_the_most_intricate_parts_are_answered_in_bounded_work() -> None:
    n = 3000  # columns in the upper half, rows in the lower: n * n / 4 visits for a sweep along the rows
    boxes = [((0, i), (n, 1)) for i in range(n)] + [((n + i, 0), (1, n)) for i in range(n)]
    check_cover((2 * n, n), boxes)
    n = 30_000
    boxes = [(((i // 2), 0) if i % 2 else ((i // 2), 1), (1, 1)) for i in range(n)]
    check_cover((n // 2, 2), boxes)
    long = [((0, i), (n, 1)) for i in range(n // 2)] + [((i, n // 2), (1, n // 2)) for i in range(n)]
    with pytest.raises(ValueError, match="lie in a way that no plan makes"):
        check_cover((n, n), long)


def test_intersection() -> None:
    assert intersection(((0, 2), (4, 4)), ((2, 0), (4, 3))) == ((2, 2), (2, 1))
    assert intersection(((0,), (2,)), ((2,), (2,))) is None
    assert intersection(((), ()), ((), ())) == ((), ())
