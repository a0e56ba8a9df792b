"""One node of a job from start to end: forwards stop signals, says why a job ended, starts it again after a crash.

SIGTERM, SIGINT, SIGHUP or SIGUSR1 (Slurm's warning) ask all ranks to finish their step and save: exit code 75. A second
one ends them at once. Exit codes: those of `ernie5 train`; 124 after a hang; 128 + signal when a rank was killed; 1 when a stop came too
early to save.
A crash or a hang is followed by up to `restarts` new starts, which go on from the last good checkpoint; a user's mistake or a stop is not.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType, TracebackType

from ernie5.launch.ranks import GRACE_S, Exit, Node, run_ranks
from ernie5.run.failure import EXIT_CRASHED, EXIT_HUNG, EXIT_INTERRUPTED, EXIT_MISTAKE, Failure, read_note
from ernie5.run.signals import EXIT_STOPPED, SECOND_AFTER_S

STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGHUP)


class Forward:
    """While the block runs, stop signals go to the ranks as SIGTERM. `requested`: whether there was one."""

    def __init__(self) -> None:
        self.requested, self.pids, self.last_s = False, [], 0.0  # type: bool, list[int], float

    def to(self, pids: list[int]) -> None:
        """The ranks that now run; a stop that came before them is theirs as well."""
        self.pids = pids
        if self.requested:
            self._send()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if not self.requested or time.monotonic() - self.last_s >= SECOND_AFTER_S:
            self.requested, self.last_s = True, time.monotonic()
            self._send()

    def _send(self) -> None:
        for pid in self.pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)

    def __enter__(self) -> Forward:
        handled = [number for number in STOPS if signal.getsignal(number) != signal.SIG_IGN]  # nohup ignores SIGHUP
        self.former = {number: signal.signal(number, self._handle) for number in handled}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self.former.items():
            signal.signal(number, handler)


def supervise(words: Sequence[str], node: Node, logs: Path, restarts: int) -> int:
    """Run `ernie5 WORDS` on all ranks of this node, again after a crash; the exit code of the job. `logs`: the run's folder for logs."""
    with Forward() as stop:
        for attempt in range(restarts + 1):
            end = run_ranks(words, node, logs, attempt, stop.to)
            stop.to([])
            code = report(end, node, logs, stop.requested)
            if code in (0, EXIT_MISTAKE, EXIT_STOPPED) or stop.requested or attempt == restarts:
                return code
            _say(f"restart {attempt + 1} of {restarts}, from the last good checkpoint")
    raise AssertionError("a job has at least one attempt")


def report(end: Exit, node: Node, logs: Path, stopping: bool) -> int:
    """Say what ended the job, its first failure alone, and put those of the other ranks into their logs; the exit code."""
    failures = collect(end, node)
    if node.nodes == 1:
        shutil.rmtree(end.notes, ignore_errors=True)
    if not failures:
        return EXIT_STOPPED if any(code == EXIT_STOPPED for code, _ in end.codes.values()) else 0
    first = min(failures, key=lambda rank: failures[rank].time_ns)
    cause = failures[first]
    for rank in failures.keys() - {first}:
        with contextlib.suppress(OSError), open(logs / f"rank-{rank}.log", "a", encoding="utf-8") as file:
            file.write(f"{failures[rank].text}\n")
    if stopping and cause.code in (-signal.SIGTERM, 128 + signal.SIGTERM, EXIT_INTERRUPTED):
        _say("stopped before this run could save; the same command starts again from the last checkpoint, if there is one")
        return EXIT_CRASHED
    trace = "" if cause.text == cause.message else f"\n{cause.text}"
    if not node.first_rank <= first < node.first_rank + node.processes:
        _say(f"node {node.node} ends because rank {first} failed: {cause.message}")
    elif cause.code in (EXIT_MISTAKE, EXIT_HUNG):
        _say(cause.message + trace)
    else:
        _say(f"rank {first} of {node.size} failed first: {cause.message}{trace}\nThe other ranks were ended; all logs are in {logs}")
    return 128 - cause.code if cause.code < 0 else cause.code


def collect(end: Exit, node: Node) -> dict[int, Failure]:
    """The failures of all ranks that are known here: their notes, and for those that were killed what the system says."""
    if node.nodes > 1 and any(code not in (0, EXIT_STOPPED) for code, _ in end.codes.values()):
        time.sleep(GRACE_S)  # notes of other nodes
    found = {}
    for path in end.notes.glob("rank-*.json"):
        if (note := read_note(path)) is not None:
            found[int(path.stem.removeprefix("rank-"))] = note
    for rank, (code, alive_ns) in end.codes.items():
        if rank not in found and code not in (0, EXIT_STOPPED):
            how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code} and left no note"
            message = f"it {how}" + (" (out of memory?)" if code == -signal.SIGKILL else "")
            found[rank] = Failure(code, message, message, alive_ns)  # what it led to came later
    return found


def _say(message: str) -> None:
    print(f"ernie5: {message}", file=sys.stderr, flush=True)
