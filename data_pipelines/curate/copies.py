"""What a search for copies answers: which samples go, and which sample that stays each of them is a copy of."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ernie5.run.progress import progress

T = TypeVar("T")
_ADVANCE = 256  # a bar that is told of every item costs as much as the item


@dataclass(frozen=True)
class Copies:
    """Three columns of one length: the number of the sample that goes, of the one that stays, and how alike they are."""

    number: np.ndarray  # int64
    of: np.ndarray      # int64
    value: np.ndarray   # float64

    @staticmethod
    def of_list(found: list[tuple[int, int, float]]) -> Copies:
        """From (number, of, value) one after the other."""
        columns = zip(*found, strict=True) if found else ((), (), ())
        number, of, value = (np.array(column) for column in columns)
        return Copies(number.astype(np.int64), of.astype(np.int64), value.astype(np.float64))


def tracked(title: str, items: Sequence[T]) -> Iterator[T]:
    """The items, one after the other, with a progress bar."""
    with progress(title, total=len(items)) as bar:
        for start in range(0, len(items), _ADVANCE):
            block = items[start:start + _ADVANCE]
            yield from block
            bar.advance(len(block))
