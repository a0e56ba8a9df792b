"""Stop politely: the first SIGTERM or SIGINT only sets a flag, the loop finishes its step, saves and leaves with EXIT_STOPPED.

    with StopRequest() as stop:
        for step in steps:
            ...
            if stop.requested: save(); sys.exit(EXIT_STOPPED)

A second signal ends the process at once (exit status 128 + signal). Signals within a second of the first are the same request: a terminal
and a launcher both forward Ctrl-C, so every rank gets it twice.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from types import FrameType, TracebackType

EXIT_STOPPED = 75  # EX_TEMPFAIL of sysexits.h: run me again and I go on
SECOND_AFTER_S = 1.0


class Stopped(Exception):
    """A long job was asked to stop and has saved; the message says how far it came. Ends the process with EXIT_STOPPED."""


class StopRequest:
    """`requested` turns True after the first SIGTERM or SIGINT; the former handlers are back when the block ends.

    ValueError outside the main thread, where Python delivers no signals.
    """

    def __init__(self) -> None:
        self.requested = False
        self._first_s = 0.0
        self._former: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._former[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler if handler is not None else signal.SIG_DFL)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if not self.requested:
            self.requested, self._first_s = True, time.monotonic()
            _say(f"{name}: finishing this step and saving; send it again after {SECOND_AFTER_S:.0f} s to exit at once\n")
        elif time.monotonic() - self._first_s >= SECOND_AFTER_S:
            _say(f"{name} again: exiting at once\n")
            os._exit(128 + number)


def _say(text: str) -> None:
    # not through logging or print: a handler may interrupt a write in progress, and neither can be entered twice
    with contextlib.suppress(OSError):
        os.write(2, text.encode())
