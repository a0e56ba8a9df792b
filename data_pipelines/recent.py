"""A small memory of the most recently used things: open files, blocks of an index, decoded row groups.

Several threads may use one. A copy that goes to a worker process starts empty, so what is kept may hold file descriptors.
Ours: all of it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps values up to `room` units of weight, the least recently used go first; the last one asked for always stays."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._kept: OrderedDict[Hashable, tuple[T, int]] = OrderedDict()
        self._used = 0
        self._lock = Lock()

    def get(self, key: Hashable, make: Callable[[], tuple[T, int]]) -> T:
        """The kept value, or the first of `make() -> value, weight`. Two threads may make the same value at once; one is kept."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept[0]
        value, weight = make()
        with self._lock:
            self._drop(key)
            self._kept[key] = value, weight
            self._used += weight
            while self._used > self.room and len(self._kept) > 1:
                self._used -= self._kept.popitem(last=False)[1][1]
        return value

    def drop(self, key: Hashable) -> None:
        """Forget one value, if it is there."""
        with self._lock:
            self._drop(key)

    def __len__(self) -> int:
        return len(self._kept)

    def _drop(self, key: Hashable) -> None:
        old = self._kept.pop(key, None)
        self._used -= old[1] if old else 0

    def __getstate__(self) -> int:
        return self.room

    def __setstate__(self, room: int) -> None:
        Recent.__init__(self, room)
