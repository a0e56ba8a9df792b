"""What a run saves, and when it is written: at once, or beside the steps that follow.

    with Saving(…) as saving:            # leaving the block waits for the save in flight
        saving.save(run)                 # state of this step; in the background: copied, then written by a thread
        saving.report()                  # once a step: what the last one died of

A failed save is reported and training goes on: the older checkpoints are untouched. All ranks save together, each its shards. Ours.
"""

from __future__ import annotations

import logging
import time
from copy import deepcopy
from functools import partial
from types import TracebackType
from typing import Any

from ernie5.config import fingerprint
from ernie5.parallel.world import World
from ernie5.run.background import BackgroundSave
from ernie5.run.checkpoint import CheckpointError, save_checkpoint
from ernie5.run.content import Snapshot
from ernie5.run.folder import RunFolder
from ernie5.run.rank_parts import Patience
from ernie5.train.prepare import Corpus
from ernie5.train.training import Training

log = logging.getLogger(__name__)


class Saving:
    """Saves of one run. `prints` identify its tokenizers."""

    def __init__(self, corpus: Corpus, folder: RunFolder, prints: dict[str, str], world: World) -> None:
        self.corpus, self.folder, self.prints, self.team = corpus, folder, prints, world.team()
        self.snapshot = Snapshot() if corpus.recipe.train.async_checkpoint else None
        self.background = BackgroundSave(world.size)
        self.patience = Patience(stop=self.background.stop)
        self.world = world

    def save(self, run: Training) -> None:
        """Save the state of this step; all ranks call it. Returns when the state may change again."""
        self.background.wait()
        recipe = self.corpus.recipe
        (moment,) = self.team.of_first([time.time_ns()])
        parts = run.shards() if self.snapshot is None else self.snapshot.take(run.shards())
        sources = {name: source.fingerprints for name, source in self.corpus.sources.items()}
        state: dict[str, Any] = {
            "training": deepcopy(run.state()), "tokenizers": self.prints, "sources": sources, "lineage": recipe.run.start_from,
            "bits": recipe.train.bits_at(run.step) or run.model.vocabulary.bits}
        write = partial(
            save_checkpoint, self.folder.checkpoints, run.step, parts, state, run_id=recipe.run.name, fingerprint=fingerprint(recipe),
            keep_last=recipe.train.keep_last, team=self.team, attempt=f"{moment:x}", patience=self.patience)
        if self.snapshot is not None:
            self.background.start(write)
            return
        try:
            write()
        except CheckpointError as error:
            log.error("%s", error)
        self.world.barrier()

    def report(self) -> None:
        """Say what a save in the background died of."""
        self.background.report()

    def settle(self) -> None:
        """Until what was saved is on disk or has failed, on all ranks."""
        self.background.wait()
        self.world.barrier()

    def __enter__(self) -> "Saving":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.background.__exit__(kind, error, trace)
        if kind is None:
            self.world.barrier()
