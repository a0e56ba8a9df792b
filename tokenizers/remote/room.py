"""What a service has only so much of: bytes of messages that it holds at once, for which one waits a while, and seats for clients. Ours."""

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


class Seat:
    """One of the seats that a semaphore counts; `leave` gives back what was taken, once."""

    def __init__(self, seats: threading.Semaphore) -> None:
        self.seats, self.taken = seats, False

    def take(self) -> bool:
        """Whether one was free."""
        self.taken = self.seats.acquire(blocking=False)
        return self.taken

    def leave(self) -> None:
        """Somebody else may have it."""
        if self.taken:
            self.seats.release()
        self.taken = False
