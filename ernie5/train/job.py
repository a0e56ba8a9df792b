"""One training job from recipe to report: what `ernie5 train` and `ernie5 resume` do.

A run that exists goes on; its recipe may change only where `MAY_CHANGE` says so.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ernie5.config import check_unchanged, load_config, to_yaml
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.parallel.torch_engine import World
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.run.lock import run_lock
from ernie5.run.log import logging_to
from ernie5.run.metrics_log import MetricsLog
from ernie5.run.signals import EXIT_STOPPED
from ernie5.train.assemble import build_training
from ernie5.train.checkpoints import checkpoint, fingerprints, start
from ernie5.train.first_screen import first_screen
from ernie5.train.loop import Hooks, train
from ernie5.train.prepare import load_tokenizers, open_sources
from ernie5.train.tracker import tracker
from ernie5.train.train_tokenizers import prepare
from ernie5.train.training import Training

log = logging.getLogger(__name__)
MAY_CHANGE = ("run.dir", "run.name", "run.tokenizers", "run.start_from", "train.steps", "train.schedule", "train.checkpoint_every",
              "train.keep_last", "train.evaluate_every", "train.threads", "train.device", "train.profile_steps", "train.micro_rows",
              "data.tolerance", "data.cache_gib", "evaluate", "log", "parallel")


def train_recipe(path: str | Path, overrides: Sequence[str] = ()) -> int:
    """Train a recipe or go on with its unfinished run. Exit code: 0 complete, 75 stopped by a signal and saved."""
    return run_job(load_config(Recipe, path, overrides))


def resume_run(spec: str, overrides: Sequence[str] = (), to: Path | None = None) -> int:
    """`RUN_DIR` goes on; `RUN_DIR[@STEP]` with `to` starts a new run there, which remembers where it came from."""
    name, _, step = spec.partition("@")
    folder = RunFolder(Path(name)).open()
    recipe = load_config(Recipe, folder.recipe, overrides)
    if to is None:
        if step:
            raise ValueError(f"{spec}: going on from there would overwrite what came after; add --to NEW_DIR to fork the run")
        return run_job(replace(recipe, run=replace(recipe.run, dir=name)))
    if RunFolder(Path(to)).recipe.exists():
        raise ValueError(f"--to {to} is a run already; choose a new folder, or go on with `ernie5 resume {to}`")
    tokenizers = recipe.run.tokenizers or name
    return run_job(replace(recipe, run=replace(recipe.run, dir=str(to), tokenizers=tokenizers, start_from=spec, start_load="all")))


def run_job(recipe: Recipe) -> int:
    """Prepare, train, evaluate, report; every rank of a distributed run calls this."""
    world = World.join(recipe.train.device)
    try:
        recipe.check(world.size)
        set_numerics(recipe)
        folder = RunFolder(Path(recipe.run.folder))
        if world.rank == 0:
            folder.create()
        world.barrier()
        with run_lock(folder.lock) if world.rank == 0 else contextlib.nullcontext(), logging_to(folder.logs, world.rank):
            return _run(recipe, folder, world)
    finally:
        world.leave()


def set_numerics(recipe: Recipe) -> None:
    """Threads, and algorithms that give the same bits again."""
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.use_deterministic_algorithms(recipe.train.deterministic, warn_only=True)


def _run(recipe: Recipe, folder: RunFolder, world: World) -> int:
    if world.rank == 0:
        if folder.recipe.exists():
            check_unchanged(load_config(Recipe, folder.recipe), recipe, MAY_CHANGE)
        folder.write_recipe(to_yaml(recipe))
        folder.write_code()
        first_screen(recipe, folder, world)
        prepare(recipe)
    world.barrier()
    tokenizers = load_tokenizers(recipe)
    quarantine = Quarantine(folder.logs / "quarantine.jsonl", recipe.data.tolerance)
    corpus = open_sources(recipe, recipe.data.sources, quarantine)
    run = build_training(recipe, tokenizers, corpus, quarantine, world)
    prints = fingerprints(tokenizers)
    start(run, recipe, folder, prints)
    metrics = MetricsLog(folder.metrics)
    if world.rank == 0:
        metrics.truncate_after(run.step)
    with tracker(recipe, folder, world.rank == 0) as track:

        def write(numbers: dict) -> None:
            if world.rank == 0:
                metrics.append(numbers["step"], numbers)
                track(numbers)

        hooks = Hooks(write, lambda r: checkpoint(r, recipe, folder, prints, world), lambda r: evaluate_now(r, recipe, folder, world))
        complete = train(run, recipe.train, world, hooks)
    run.loader.close()
    if not complete:
        log.warning("stopped at step %d and saved; the same command goes on from here", run.step)
        return EXIT_STOPPED
    if world.rank == 0:
        finish(recipe, folder)
    world.barrier()
    return 0


def evaluate_now(run: Training, recipe: Recipe, folder: RunFolder, world: World) -> None:
    """A look at the unfinished model: samples/eval-STEP.json."""
    from ernie5.train.evaluate import evaluate_model

    if world.rank == 0:
        evaluate_model(run.model, recipe, folder, folder.samples / f"eval-{run.step:08d}.json")
    run.model.train()
    world.barrier()


def finish(recipe: Recipe, folder: RunFolder) -> None:
    """Evaluation and report of a complete run."""
    from ernie5.train.evaluate import evaluate_run
    from ernie5.train.report import write_report

    if recipe.evaluate.at_end:
        evaluate_run(folder.path)
    write_report(folder.path)
    log.info("complete: %s", folder.report)
