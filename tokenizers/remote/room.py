"""How many bytes of messages a service holds at once: who wants more waits, and is turned away after a while. Ours."""

from __future__ import annotations

import threading


class Room:
    """`total` bytes."""

    def __init__(self, total: int) -> None:
        self.left = total
        self.changed = threading.Condition()

    def take(self, num_bytes: int, patience_s: float) -> bool:
        """Whether so many bytes became free in time; `give` them back."""
        with self.changed:
            if not self.changed.wait_for(lambda: self.left >= num_bytes, patience_s):
                return False
            self.left -= num_bytes
            return True

    def give(self, num_bytes: int) -> None:
        """Free them."""
        with self.changed:
            self.left += num_bytes
            self.changed.notify_all()
