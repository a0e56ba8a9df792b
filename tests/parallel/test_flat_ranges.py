"""A run of elements as boxes: all of them, each once, in order."""

import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from ernie5.parallel.flat_ranges import boxes


@given(st.lists(st.integers(1, 5), max_size=4).map(tuple), st.data())
def test_boxes_are_the_run(shape, data) -> None:
    numel = math.prod(shape)
    start = data.draw(st.integers(0, numel))
    stop = data.draw(st.integers(start, numel))
    whole = torch.arange(numel).view(shape)
    found = list(boxes(shape, start, stop))
    cut = [whole[tuple(slice(a, a + n) for a, n in zip(at, size, strict=True))].flatten() for at, size in found]
    assert torch.equal(torch.cat([torch.empty(0, dtype=torch.long), *cut]), torch.arange(start, stop))
    assert all(math.prod(size) for _, size in found) and len(found) <= max(1, 2 * len(shape) - 1)


def test_the_docstring() -> None:
    assert list(boxes((3, 4), 2, 10)) == [((0, 2), (1, 2)), ((1, 0), (1, 4)), ((2, 0), (1, 2))]
    assert list(boxes((), 0, 1)) == [((), ())] and list(boxes((2, 3), 0, 6)) == [((0, 0), (2, 3))]
