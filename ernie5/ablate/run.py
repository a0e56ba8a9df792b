"""Run the runs: each a process of its own, `python -m ernie5 train RUN_DIR/recipe.yaml`, some at a time, what is finished left alone.

    finished = the checkpoint of the last step (of the recipe, or of the data) is there, and eval.json speaks of it

A run that fails is reported and the others go on. A signal is handed to the processes, which save and leave. A run that a killed
ablation left behind still trains and holds its lock: it is waited for. Ours.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ernie5.ablate.plan import PlannedRun
from ernie5.ablate.state import holder, is_finished, last_step
from ernie5.config import to_yaml
from ernie5.run.progress import progress
from ernie5.run.signals import EXIT_STOPPED, StopRequest

log = logging.getLogger(__name__)
POLL_S = 0.2
SHOWN_LINES = 12
Command = Callable[[PlannedRun], list[str]]


@dataclass
class Outcome:
    """What became of the runs: the reason of every failure by name, and whether a signal stopped them."""

    failed: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


@dataclass
class Child:
    """A run that trains now; `process` is None for one that is only waited for. `log_start`: where its part of the log begins."""

    run: PlannedRun
    process: subprocess.Popen | None
    log_start: int
    step: int

    @property
    def is_over(self) -> bool:
        return holder(self.run.folder) is None if self.process is None else self.process.poll() is not None

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def advance(self) -> int:
        """Steps since the last call."""
        before, self.step = self.step, max(self.step, last_step(self.run.folder))
        return self.step - before


def train_command(run: PlannedRun) -> list[str]:
    """How a run is trained."""
    return [sys.executable, "-m", "ernie5", "train", str(run.folder.recipe)]


def output_log(run: PlannedRun) -> Path:
    """Where the output of a run goes, of all its processes one after the other."""
    return run.folder.logs / "output.log"


def run_all(runs: Sequence[PlannedRun], jobs: int, report: Callable[[], None], command: Command = train_command) -> Outcome:
    """Train what is not finished, `jobs` at a time. `report` is called whenever a run has ended."""
    outcome, running = Outcome(), list[Child]()
    waiting = deque(run for run in runs if not is_finished(run.folder, run.recipe.train.steps))
    done, left = len(runs) - len(waiting), sum(run.steps.stop - 1 - starting_step(run) for run in waiting)
    with StopRequest() as stop, progress("ablation", total=left) as bar:
        try:
            while running or (waiting and not stop.requested):
                while waiting and len(running) < jobs and not stop.requested:
                    running.append(start(waiting.popleft(), command))
                if stop.requested and not outcome.stopped:
                    outcome.stopped = True
                    running = _stop(running)
                time.sleep(POLL_S)
                steps = sum(child.advance() for child in running)
                now = ", ".join(f"{child.run.name} {child.step}/{child.run.recipe.train.steps}" for child in running)
                bar.advance(steps, runs=f"{done}/{len(runs)}", now=now or "-")
                for child in [child for child in running if child.is_over]:
                    running.remove(child)
                    if not outcome.stopped and came_second(child):
                        waiting.appendleft(child.run)
                        continue
                    done += settle(child, outcome)
                    report()
        finally:
            _stop(running)
            for child in running:
                if child.process is not None:
                    child.process.wait()
    outcome.stopped |= stop.requested and bool(waiting)
    return outcome


def start(run: PlannedRun, command: Command) -> Child:
    """Start its process, or find out who trains it."""
    folder = run.folder.create()
    pid = holder(folder)
    if pid is not None:
        log.warning("%s is being trained by process %d already, as an ablation that was killed leaves it: waiting for that", run.name, pid)
        return Child(run, None, 0, starting_step(run))
    folder.write_recipe(to_yaml(run.recipe))
    path = output_log(run)
    package = str(Path(__file__).parents[2])
    paths = os.pathsep.join([package, *filter(None, [os.environ.get("PYTHONPATH")])])
    with open(path, "ab") as file:  # a session of its own: only we forward Ctrl-C, and only once
        process = subprocess.Popen(command(run), stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, start_new_session=True,
                                   env={**os.environ, "PYTHONPATH": paths, "ERNIE5_PROGRESS": "lines"})
    return Child(run, process, path.stat().st_size, starting_step(run))


def starting_step(run: PlannedRun) -> int:
    """The step after which it goes on."""
    return max(last_step(run.folder), run.steps.start - 1)


def came_second(child: Child) -> bool:
    """Whether another process has, or had, the run, and it is not finished: then it is to be started, or waited for, again."""
    if is_finished(child.run.folder, child.run.recipe.train.steps):
        return False
    return child.process is None or (child.process.returncode != 0 and holder(child.run.folder) is not None)


def settle(child: Child, outcome: Outcome) -> bool:
    """Say what came of a process that has ended; whether its run is finished."""
    run, code = child.run, child.process.returncode if child.process is not None else 0
    if code == 0 and is_finished(run.folder, run.recipe.train.steps):
        log.info("finished %s", run.name)
        return True
    if outcome.stopped:
        log.info("stopped %s after step %d", run.name, last_step(run.folder))
        return False
    outcome.failed[run.name] = reason = _reason(code)
    log.error("%s %s; the end of %s:\n%s", run.name, reason, output_log(run), _tail(output_log(run), child.log_start))
    return False


def _stop(running: list[Child]) -> list[Child]:
    """Tell all processes to save and stop; those that are to be waited for."""
    for child in running:
        child.stop()
    return [child for child in running if child.process is not None]


def _reason(code: int) -> str:
    if code < 0:
        return f"was killed ({signal.strsignal(-code)})"
    reasons = {0: "ended without an evaluation", EXIT_STOPPED: "was stopped from outside; the same command goes on with it"}
    return reasons.get(code, f"failed with exit code {code}")


def _tail(path: Path, start: int) -> str:
    with open(path, "rb") as file:
        file.seek(max(start, path.stat().st_size - 2**16))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return "\n".join(f"    {line}" for line in lines[-SHOWN_LINES:]) or "    (it said nothing)"
