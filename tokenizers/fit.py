"""The loop that trains any tokenizer: it saves, goes on after a kill bit for bit, and outlives steps that are not finite.

    step 0, 1, 2 …:  metrics = trainee.step(step)          every so many steps, and when asked to stop: a checkpoint of `trainee.tensors()`

Everything that moves is a tensor: weights, statistics, codebooks, optimizer moments, the discriminator and its averages. Everything random
is drawn from (seed, step). So a checkpoint is tensors and a step number, in the format of the backbone's (run/checkpoint.py).
Ours: the report says nothing about it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, save_checkpoint
from ernie5.run.metrics_log import MetricsLog
from ernie5.run.progress import progress
from ernie5.run.signals import Stopped, StopRequest

MAX_SKIPPED = 50  # steps in a row that are not finite: then something is wrong that no further step will repair
log = logging.getLogger(__name__)


class Trainee(Protocol):
    """What is trained. `step` does update number `step` (from 0) and returns numbers to show and to keep, among them `loss`.

    A step whose loss or gradients are not finite changes nothing at all (no weight, no statistic, no codebook), and the `loss` that it
    returns is not finite. `tensors` gives the living tensors by name; `load` puts saved ones in their place.
    """

    num_steps: int

    def step(self, step: int) -> Mapping[str, float]: ...

    def tensors(self) -> dict[str, Tensor]: ...

    def load(self, tensors: Mapping[str, Tensor]) -> None: ...


@dataclass(frozen=True)
class Saves:
    """Where a training keeps `checkpoints/` and `metrics.jsonl`. `fingerprint` names settings, data and seed: a checkpoint of others is
    not taken up. `every`: steps between checkpoints; 0 = only when asked to stop.
    """

    folder: Path
    fingerprint: str
    every: int = 500

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def stage(self, name: str) -> Saves:
        """The place of one stage of a training in several."""
        return Saves(self.folder / name, self.fingerprint, self.every)


def fit(trainee: Trainee, title: str, saves: Saves | None = None) -> None:
    """Train to the end, from the last checkpoint where there is one.

    Stopped: after SIGTERM or SIGINT, saved (only with `saves`, and in the main thread). ValueError: `MAX_SKIPPED` steps in a row were not
    finite.
    """
    first = _restore(trainee, saves) if saves else 0
    metrics = MetricsLog(saves.folder / "metrics.jsonl") if saves else None
    if metrics:
        metrics.truncate_after(first)
    listens = saves is not None and threading.current_thread() is threading.main_thread()
    skipped = 0
    with StopRequest() if listens else nullcontext() as stop, progress(title, total=trainee.num_steps) as bar:
        bar.advance(first)
        for step in range(first, trainee.num_steps):
            numbers = trainee.step(step)
            skipped = 0 if math.isfinite(numbers["loss"]) else skipped + 1
            if skipped == MAX_SKIPPED:
                raise ValueError(f"{title}: the loss was not finite in {skipped} steps in a row, the last one step {step + 1}; "
                                 "use a lower learning rate, or look for media that are not finite")
            bar.advance(1, loss=f"{numbers['loss']:.4g}")
            done = step + 1
            if metrics:
                metrics.append(done, numbers)
            asked = stop is not None and stop.requested
            if saves and done < trainee.num_steps and (asked or (saves.every and done % saves.every == 0)):
                _save(trainee, saves, done)
            if asked and done < trainee.num_steps:
                raise Stopped(f"{title}: stopped after step {done} of {trainee.num_steps} and saved; the same command goes on")
    if saves:
        _save(trainee, saves, trainee.num_steps)


def _save(trainee: Trainee, saves: Saves, step: int) -> None:
    try:
        save_checkpoint(saves.checkpoints, step, trainee.tensors(), {}, run_id="tokenizer", fingerprint=saves.fingerprint)
    except CheckpointError as error:
        log.error("%s", error)  # the older ones are untouched, and training goes on


def _restore(trainee: Trainee, saves: Saves) -> int:
    """The step that the training had reached."""
    saves.folder.mkdir(parents=True, exist_ok=True)
    found = latest_checkpoint(saves.checkpoints)
    if found is None:
        return 0
    if found.manifest.fingerprint != saves.fingerprint:
        log.warning("%s was made with other settings, data or seed; training begins anew", saves.checkpoints)
        return 0
    trainee.load(found.tensors)
    log.info("going on after step %d (%s)", found.step, saves.checkpoints)
    return found.step
