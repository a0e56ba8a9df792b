"""One progress display for every long loop: a rich bar with the time left on a terminal, plain lines elsewhere.

    with progress("vision tokenizer", total=1000) as bar:
        bar.advance(1, loss="0.31")

Written to stderr by rank 0 only (environment variable RANK), so that stdout stays free for results. ERNIE5_PROGRESS=lines asks for plain
lines on a terminal too.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Protocol

LINE_EVERY_S = 10.0


class Progress(Protocol):
    """What `progress` hands out."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Count `n` more items done and show these values, e.g. `loss="0.31"`, beside the bar."""


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Progress]:
    """Show `title` and how many of `total` items are done (None = unknown) until the block ends."""
    if os.environ.get("RANK", "0") != "0":
        yield Silent()
    elif sys.stderr.isatty() and os.environ.get("ERNIE5_PROGRESS") != "lines":
        with TerminalBar(title, total) as bar:
            yield bar
    else:
        with PlainLines(title, total) as lines:
            yield lines


class Silent:
    """The display of the other ranks: nothing."""

    def advance(self, n: int = 1, **shown: object) -> None:
        """Do nothing."""


class PlainLines:
    """A line at most every `LINE_EVERY_S` seconds, and one at the end; for log files and pipes."""

    def __init__(self, title: str, total: int | None) -> None:
        self.title, self.total, self.done, self.shown = title, total, 0, ""
        self.started = self.last_line = time.monotonic()

    def advance(self, n: int = 1, **shown: object) -> None:
        """Count `n` more items done; print when a line is due."""
        self.done += n
        self.shown = _pairs(shown) or self.shown
        if time.monotonic() - self.last_line >= LINE_EVERY_S:
            self._line()

    def _line(self, ending: str = "") -> None:
        self.last_line = time.monotonic()
        spent_s = self.last_line - self.started
        if not ending and self.total and self.done:
            ending = f", {_clock(spent_s * (self.total - self.done) / self.done)} left"
        done = f"{self.done}/{self.total}" if self.total is not None else str(self.done)
        print(f"{self.title}: {done} in {_clock(spent_s)}{ending}  {self.shown}".rstrip(), file=sys.stderr, flush=True)

    def __enter__(self) -> PlainLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._line(", done" if kind is None else f", ended by {kind.__name__}")


class TerminalBar:
    """A rich bar: title, bar, count, time spent, time left, values."""

    def __init__(self, title: str, total: int | None) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
                   TimeRemainingColumn(), TextColumn("{task.fields[shown]}", markup=False))
        self.rich = RichProgress(*columns, console=Console(file=sys.stderr))
        self.task = self.rich.add_task(title, total=total, shown="")

    def advance(self, n: int = 1, **shown: object) -> None:
        """Count `n` more items done; the bar redraws itself ten times a second."""
        if shown:
            self.rich.update(self.task, shown=_pairs(shown))
        self.rich.advance(self.task, n)

    def __enter__(self) -> TerminalBar:
        self.rich.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.rich.stop()


def _pairs(shown: dict[str, object]) -> str:
    return "  ".join(f"{name} {value}" for name, value in shown.items())


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"
