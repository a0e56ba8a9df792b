"""Finds hangs: when no step ends for `limit_s`, every rank writes the Python stacks of all its threads into its log and the job ends.

    with Watchdog(folder.logs, rank, size, limit_s) as watch:
        for step in …:
            …
            watch.beat(step)                 # a step has ended
            with watch.paused("evaluation"): # may take longer than a step
                …

A thread of each rank looks at its clock and into `logs/hang/`, where the rank that notices the hang first leaves a note, and then all
others: who leaves none is stopped or frozen. Nothing is written while all goes well. Where a thread holds Python's lock for good,
`faulthandler` still writes the stacks. Ours: the rank that hangs is one that leaves no note, else one that is steps behind, else one
that waits for nobody.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType, TracebackType

from ernie5.run.failure import EXIT_HUNG, Failure
from ernie5.run.files import atomic_write

NOTES_WITHIN_S = 1.0


@dataclass(frozen=True)
class Sign:
    """Where a rank is: the last step that it has ended, what its main thread runs, and whether it waits for other ranks there."""

    step: int
    where: str
    waits: bool


class Watchdog:
    """Watches from entering to leaving the block; `limit_s` = 0: never. One at a time in a process."""

    def __init__(self, logs: Path, rank: int, size: int, limit_s: float) -> None:
        self.logs, self.rank, self.size, self.limit_s = logs, rank, size, limit_s
        self.step, self.phase, self.last = 0, "", time.monotonic()
        self.main = threading.main_thread().ident
        self.leaving = threading.Event()
        self.thread: threading.Thread | None = None

    def beat(self, step: int) -> None:
        """A step has ended."""
        self.step, self.last = step, time.monotonic()
        if self.thread is not None and not self.phase:
            # above the time of the thread below, which only is late when it cannot run at all
            faulthandler.dump_traceback_later(self.limit_s + 0.3, file=self.file, exit=False)

    @contextlib.contextmanager
    def paused(self, phase: str) -> Iterator[None]:
        """Something begins that has no time limit."""
        self.phase = phase
        faulthandler.cancel_dump_traceback_later()
        try:
            yield
        finally:
            self.last = time.monotonic()  # before the thread may look again
            self.phase = ""
            self.beat(self.step)

    def __enter__(self) -> Watchdog:
        if self.limit_s > 0:
            self.file = open(self.logs / f"rank-{self.rank}.log", "a", encoding="utf-8")
            self.thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self.beat(self.step)
            self.thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.leaving.set()
        if self.thread is not None:
            self.thread.join()
            faulthandler.cancel_dump_traceback_later()
            self.file.close()

    def _watch(self) -> None:
        notes = hang_folder(self.logs)
        while not self.leaving.wait(min(0.25, self.limit_s / 10)):
            late = not self.phase and time.monotonic() - self.last > self.limit_s
            if late or (self.size > 1 and notes.is_dir()):
                self._end(notes)

    def _end(self, notes: Path) -> None:
        """Leave a note and the stacks, wait for the notes of the others, say who hangs, and end this process."""
        faulthandler.cancel_dump_traceback_later()
        sign = Sign(self.step, *_where(sys._current_frames().get(self.main or 0), self.phase))
        with contextlib.suppress(OSError):
            notes.mkdir(exist_ok=True)
            atomic_write(notes / f"rank-{self.rank}.json", json.dumps(asdict(sign)).encode())
            self.file.write(f"no step has ended for {self.limit_s:g} s; the stacks of rank {self.rank}:\n")
            self.file.flush()
            faulthandler.dump_traceback(self.file)
        until = time.monotonic() + NOTES_WITHIN_S
        while len(signs := _read(notes)) < self.size and time.monotonic() < until:
            time.sleep(0.05)
        signs = {self.rank: sign} | signs
        why = f"no step has ended for {self.limit_s:g} s (train.watchdog_s)"
        message = f"{why}: {who_hangs(signs, self.size)}; stacks are in {self.logs}/rank-*.log"
        Failure(EXIT_HUNG, message, message, time.time_ns()).note()
        with contextlib.suppress(OSError):
            print(message, file=self.file, flush=True)
            if self.rank == min(signs) and os.environ.get("ERNIE5_LAUNCHED") != "1":
                print(message, file=sys.__stderr__, flush=True)
        os._exit(EXIT_HUNG)


def hang_folder(logs: Path) -> Path:
    """Where the notes of a hang lie."""
    return logs / "hang"


def forget_hang(logs: Path) -> None:
    """Remove what an earlier hang has left; before any rank watches."""
    shutil.rmtree(hang_folder(logs), ignore_errors=True)


def who_hangs(signs: dict[int, Sign], size: int) -> str:
    """The sentence about the ranks that hang, out of the signs of those that could give one."""
    silent = [rank for rank in range(size) if rank not in signs]
    others = "; ".join(f"rank {rank} {_said(sign)}" for rank, sign in sorted(signs.items())[:4])
    if silent:
        return f"{_ranks(silent)} hung: stopped or frozen, without any sign (a stopped process cannot show its stack); {others}"
    first = max(sign.step for sign in signs.values())
    behind = [rank for rank, sign in signs.items() if sign.step < first] or [rank for rank, sign in signs.items() if not sign.waits]
    if not behind or (len(behind) == size > 1):
        return f"no rank stands out; {others}"
    return "; ".join(f"rank {rank} hung: it {_said(signs[rank])}" for rank in sorted(behind)[:4])


def _said(sign: Sign) -> str:
    return f"{'waits for others' if sign.waits else 'is'} in {sign.where}, after step {sign.step}"


def _ranks(ranks: list[int]) -> str:
    shown = ", ".join(map(str, ranks[:8])) + (f" and {len(ranks) - 8} more" if len(ranks) > 8 else "")
    return f"rank{'s' if len(ranks) > 1 else ''} {shown}"


def _where(frame: FrameType | None, phase: str) -> tuple[str, bool]:
    """Innermost line of a thread, and whether it is inside torch.distributed, or in a backward pass, which exchanges gradients."""
    if frame is None:
        return phase or "a thread that is gone", False
    line = f"{frame.f_code.co_filename}:{frame.f_lineno} ({frame.f_code.co_name})" + (f" during {phase}" if phase else "")
    waits, outer = frame.f_code.co_name == "_engine_run_backward", frame
    while outer is not None:
        waits |= f"{os.sep}torch{os.sep}distributed{os.sep}" in outer.f_code.co_filename
        outer = outer.f_back  # type: ignore[assignment]
    return line, waits


def _read(notes: Path) -> dict[int, Sign]:
    found = {}
    for path in notes.glob("rank-*.json"):
        with contextlib.suppress(OSError, ValueError, TypeError):
            found[int(path.stem.removeprefix("rank-"))] = Sign(**json.loads(path.read_text()))
    return found
