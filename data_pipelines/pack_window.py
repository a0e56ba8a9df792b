"""Rows that are full and cost the same: best fit over a window of waiting samples.

    1. the oldest samples, up to 9/10 of the batch, longest first, each to the cheapest row with room    (order kept, cost spread)
    2. what is left of every row: the pair of the window that fills it best                              (so rows are full)
    3. rows in an order in which every stretch of them costs about the same, however many ranks share them

Nobody waits for ever: what waits longest goes first. Everything depends on lengths alone. Ours. Letters: W window.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable
from typing import Generic, TypeVar

from ernie5.data_pipelines.cost import Cost

Item = TypeVar("Item")
OLDEST_FIRST = 0.9


class WindowPacker(Generic[Item]):
    """Packs one batch of `num_rows` x `length`. `more()` gives the next (item, size) of the stream, None at its end; at most `window`
    samples wait. After `fill`, `rows` hold the items and `waiting` what is left, oldest first.
    """

    def __init__(self, num_rows: int, length: int, window: int, cost: Cost) -> None:
        self.length, self.window, self.cost = length, window, cost
        self.rows: list[list[Item]] = [[] for _ in range(num_rows)]
        self.waiting: list[Item] = []
        self.room = [length] * num_rows
        self.costs = [0.0] * num_rows

    def fill(self, more: Callable[[], tuple[Item, int] | None]) -> None:
        """Take samples until the rows are full or the stream ends."""
        pool: list[tuple[Item, int]] = []   # by age
        taken, total = 0, 0
        while total < OLDEST_FIRST * self.length * len(self.rows) and (new := more()):
            pool.append(new)
            taken, total = taken + 1, total + new[1]
        placed: set[int] = set()
        for age in sorted(range(taken), key=lambda i: (-pool[i][1], i)):
            able = [row for row, room in enumerate(self.room) if pool[age][1] <= room]
            if able:
                self._put(min(able, key=lambda row: (self.costs[row], row)), *pool[age])
                placed.add(age)
        while len(pool) - len(placed) < self.window and (new := more()):
            pool.append(new)
        free = sorted((pool[age][1], age) for age in range(len(pool)) if age not in placed)
        for row in sorted(range(len(self.rows)), key=lambda row: (self.costs[row] - self.room[row], row)):
            while chosen := _best(free, self.room[row]):
                for entry in chosen:
                    free.pop(bisect_left(free, entry))
                    placed.add(entry[1])
                    self._put(row, *pool[entry[1]])
        self.waiting = [item for age, (item, _) in enumerate(pool) if age not in placed]
        self._order()

    def _put(self, row: int, item: Item, size: int) -> None:
        self.rows[row].append(item)
        self.room[row] -= size
        self.costs[row] += self.cost.of(size)

    def _order(self) -> None:
        order = even_order(self.costs)
        self.rows, self.room = [self.rows[row] for row in order], [self.room[row] for row in order]
        self.costs = [self.costs[row] for row in order]


def even_order(costs: list[float]) -> list[int]:
    """An order of rows in which neighbours cost the same together: the dearest stands beside the cheapest, the dearest pair of them beside
    the cheapest pair, and so on, so that 2, 4, 8 … rows in a row come near the mean.
    """
    mean = sum(costs) / len(costs)
    blocks = [(cost - mean, [row]) for row, cost in enumerate(costs)]  # what a block of rows costs more than its share
    while len(blocks) > 1:
        blocks.sort(key=lambda block: (-len(block[1]), block[0], block[1]))
        size = len(blocks[0][1])
        whole = [block for block in blocks if len(block[1]) == size]
        rest = blocks[len(whole) :]
        if len(whole) == 1:  # the largest block stands alone: what is left over follows it
            blocks = [(whole[0][0] + rest[0][0], whole[0][1] + rest[0][1]), *rest[1:]]
            continue
        half = len(whole) // 2
        pairs = [(a[0] + b[0], b[1] + a[1]) for a, b in zip(whole[:half], reversed(whole[len(whole) - half :]), strict=True)]
        blocks = pairs + whole[half : len(whole) - half] + rest
    return blocks[0][1]


def _best(free: list[tuple[int, int]], room: int) -> list[tuple[int, int]]:
    """The one or two of `free` (size, age; sorted) whose sizes fill `room` best: the older where equal; none when nothing fits."""
    end = bisect_right(free, (room, 1 << 62))
    if end == 0:
        return []
    best = [free[bisect_left(free, (free[end - 1][0], -1))]]
    most = best[0][0]
    low, high = 0, end - 1
    while low < high and most < room:
        size = free[low][0] + free[high][0]
        if size > room:
            high -= 1
        else:
            if size > most:
                most, best = size, [free[low], free[high]]
            low += 1
    return best
