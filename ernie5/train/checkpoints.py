"""Where a run begins. What it saves: saving.py.

    own checkpoints  ->  run.start_from with start_load all  ->  run.start_from with start_load weights  ->  fresh weights

All state is only taken over for the same data and tokenizers: their fingerprints lie in the checkpoint. Sources may join, and weights
may change: the counters of a source are its own, so nothing of an epoch is lost or repeated.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from ernie5.data_pipelines.encode import Tokenizers
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint, CheckpointError, latest_checkpoint, load_checkpoint
from ernie5.run.folder import RunFolder
from ernie5.run.team import ALONE, Team
from ernie5.train.prepare import Corpus
from ernie5.train.training import Training

log = logging.getLogger(__name__)


def fingerprints(tokenizers: Tokenizers) -> dict[str, str]:
    """What identifies the tokenizers of a run: codes of others are refused."""
    return {kind: getattr(tokenizers, kind).fingerprint for kind in ("text", "vision", "audio")}


def start(run: Training, corpus: Corpus, folder: RunFolder, prints: dict[str, str]) -> None:
    """Put the run where it shall begin, in the resume order above. All processes verify a checkpoint together before any weight changes,
    and each reads what its plan needs of it.
    """
    settings, team = corpus.recipe.run, run.engine.world.team()
    own = latest_checkpoint(folder.checkpoints, team)
    if own is not None:
        restore(run, own, corpus, prints)
        log.info("going on after step %d", own.step)
    elif settings.start_from is not None:
        origin = find_checkpoint(settings.start_from, team)
        check_bits(corpus.recipe, origin, origin.step + 1 if settings.start_load == "all" else 1)
        if settings.start_load == "all":
            restore(run, origin, corpus, prints)
        else:
            run.load_weights(origin)
        log.info("starting from %s, step %d (%s)", settings.start_from, origin.step, settings.start_load)


def restore(run: Training, saved: Checkpoint, corpus: Corpus, prints: dict[str, str]) -> None:
    """All of a checkpoint's state; refuses codes of other tokenizers and other data."""
    state: dict[str, Any] = saved.state
    other = [kind for kind, value in state["tokenizers"].items() if prints[kind] != value]
    if other:
        raise CheckpointError(f"the checkpoint of step {saved.step} was trained with another {other[0]} tokenizer; "
                              "use the tokenizers of that run (run.tokenizers = its folder)")
    for name, shards in state["sources"].items():
        if name not in corpus.sources:
            raise CheckpointError(f"data.sources.{name} is missing, and the checkpoint of step {saved.step} draws from it; put it back "
                                  "(with weight 0 if no more of it is wanted), or begin with the weights only (run.start_load = weights)")
        corpus.sources[name].check_unchanged(shards)
    for name in corpus.sources.keys() - state["sources"].keys():
        log.info("the source %s is new since step %d; it is drawn from its beginning", name, saved.step)
    run.restore(saved, state["training"])


def check_bits(recipe: Recipe, origin: Checkpoint, step: int) -> None:
    """ValueError when the run, beginning with this step, would have fewer bits on than the checkpoint that it starts from."""
    before, now = origin.state.get("bits"), recipe.train.bits_at(step)
    if isinstance(before, int) and now is not None and now < before:
        raise ValueError(f"run.start_from = {recipe.run.start_from} has {before} bits of a vision token on, and in step {step} of this run "
                         f"{now} would be: bits are only switched on; use train.bits = {before} or more, or null")


def find_run(spec: str | Path) -> tuple[RunFolder, int | None]:
    """The run folder and the step of `RUN_DIR` (no step) or `RUN_DIR@STEP`; a folder may have an @ in its name."""
    name, at, step = str(spec).rpartition("@")
    if not at or Path(spec).is_dir():
        return RunFolder(Path(spec)).open(), None
    if not step.isdecimal():
        raise ValueError(f"{spec}: what follows @ must be the step of a checkpoint, for example {name}@1000")
    return RunFolder(Path(name)).open(), int(step)


def find_checkpoint(spec: str | Path, team: Team = ALONE) -> Checkpoint:
    """`RUN_DIR` (its latest) or `RUN_DIR@STEP`."""
    folder, step = find_run(spec)
    if step is not None:
        return load_checkpoint(folder.checkpoints / f"step-{step:08d}", team)
    found = latest_checkpoint(folder.checkpoints, team)
    if found is None:
        raise ValueError(f"{folder.path} has no checkpoint yet; train it first, or name another run")
    return found
