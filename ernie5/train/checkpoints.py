"""Where a run begins, and what it saves.

    own checkpoints  ->  run.start_from with start_load all  ->  run.start_from with start_load weights  ->  fresh weights
"""

from __future__ import annotations

import logging
from pathlib import Path

from ernie5.config import fingerprint
from ernie5.data_pipelines.encode import Tokenizers
from ernie5.parallel.torch_engine import World
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint, CheckpointError, latest_checkpoint, load_checkpoint, save_checkpoint
from ernie5.run.folder import RunFolder
from ernie5.train.training import Training

log = logging.getLogger(__name__)


def fingerprints(tokenizers: Tokenizers) -> dict[str, str]:
    """What identifies the tokenizers of a run: codes of others are refused."""
    return {kind: getattr(tokenizers, kind).fingerprint for kind in ("text", "vision", "audio")}


def start(run: Training, recipe: Recipe, folder: RunFolder, prints: dict[str, str]) -> None:
    """Put the run where it shall begin, in the resume order above."""
    own = latest_checkpoint(folder.checkpoints)
    if own is not None:
        restore(run, own, prints)
        log.info("going on after step %d", own.step)
    elif recipe.run.start_from is not None:
        origin = find_checkpoint(recipe.run.start_from)
        if recipe.run.start_load == "all":
            restore(run, origin, prints)
        else:
            run.load_weights(origin.tensors)
        log.info("starting from %s, step %d (%s)", recipe.run.start_from, origin.step, recipe.run.start_load)


def restore(run: Training, saved: Checkpoint, prints: dict[str, str]) -> None:
    """All of a checkpoint's state; refuses codes of other tokenizers."""
    other = [kind for kind, value in saved.state["tokenizers"].items() if prints[kind] != value]
    if other:
        raise CheckpointError(f"the checkpoint of step {saved.step} was trained with another {other[0]} tokenizer; "
                              "use the tokenizers of that run (run.tokenizers = its folder)")
    run.restore(saved.tensors, saved.state["training"])


def find_checkpoint(spec: str) -> Checkpoint:
    """`RUN_DIR` (its latest) or `RUN_DIR@STEP`."""
    name, _, step = spec.partition("@")
    folder = RunFolder(Path(name)).open()
    if step:
        return load_checkpoint(folder.checkpoints / f"step-{int(step):08d}")
    found = latest_checkpoint(folder.checkpoints)
    if found is None:
        raise ValueError(f"{name} has no checkpoint yet; train it first, or name another run")
    return found


def checkpoint(run: Training, recipe: Recipe, folder: RunFolder, prints: dict[str, str], world: World) -> None:
    """Save on rank 0. A failed save is reported and training goes on: the older checkpoints are untouched."""
    if world.rank == 0:
        state = {"training": run.state(), "tokenizers": prints, "lineage": recipe.run.start_from}
        try:
            save_checkpoint(folder.checkpoints, run.step, run.tensors(), state, run_id=recipe.run.name,
                            fingerprint=fingerprint(recipe), keep_last=recipe.train.keep_last)
        except CheckpointError as error:
            log.error("%s", error)
    world.barrier()
