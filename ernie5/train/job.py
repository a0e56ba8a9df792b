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
from ernie5.data_pipelines.encode_ahead import encode_ahead
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.parallel.plan_rules import check_machine
from ernie5.parallel.world import World
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import CheckpointError, list_steps
from ernie5.run.ended import forget_end, note_end
from ernie5.run.failure import Failure
from ernie5.run.folder import RunFolder
from ernie5.run.lock import run_lock
from ernie5.run.log import logging_to
from ernie5.run.metrics_log import MetricsLog
from ernie5.run.signals import EXIT_STOPPED
from ernie5.run.watchdog import Watchdog, forget_hang
from ernie5.train.assemble import build_training, whole_on_meta
from ernie5.train.checkpoints import find_checkpoint, find_run, fingerprints, start
from ernie5.train.first_screen import first_screen
from ernie5.train.loop import Hooks, train
from ernie5.train.mfu import Utilization
from ernie5.train.prepare import load_tokenizers, open_training_sources
from ernie5.train.profile import StepProfiler
from ernie5.train.saving import Saving
from ernie5.train.steps import shape_of_step
from ernie5.train.tracker import tracker
from ernie5.train.train_tokenizers import prepare
from ernie5.train.training import Training

log = logging.getLogger(__name__)
MAY_CHANGE = ("run.dir", "run.name", "run.tokenizers", "run.start_from", "train.steps", "train.schedule", "train.checkpoint_every",
              "train.keep_last", "train.async_checkpoint", "train.evaluate_every", "train.threads", "train.device", "train.profile_steps",
              "train.micro_rows", "train.watchdog_s", "train.prefetch", "tokenizers.services", "tokenizers.service_wait_s",
              "data.tolerance", "data.cache_gib", "data.encode_ahead", "evaluate", "log", "parallel", "data.sources.*.weight",
              "data.sources.*.epochs", "data.temperature", "data.workers", "data.pack_window")
OF_THE_MODEL = ("model", "understanding", "elastic", "train", "data.roles", "data.history", "data.prompt_weight", "data.text_dropout")


def train_recipe(path: str | Path, overrides: Sequence[str] = ()) -> int:
    """Train a recipe or go on with its unfinished run. Exit code: 0 complete, 75 stopped by a signal and saved."""
    return run_job(load_config(Recipe, path, overrides))


def resume_run(spec: str, overrides: Sequence[str] = (), to: Path | None = None) -> int:
    """`RUN_DIR` goes on; `RUN_DIR[@STEP]` with `to` starts a new run there, which remembers where it came from."""
    folder, step = find_run(spec)
    recipe = load_config(Recipe, folder.recipe, overrides)
    if to is None:
        if step is not None:
            raise ValueError(f"{spec}: going on from there would overwrite what came after; add --to NEW_DIR to fork the run")
        return run_job(replace(recipe, run=replace(recipe.run, dir=str(folder.path))))
    if RunFolder(Path(to)).recipe.exists():
        raise ValueError(f"--to {to} is a run already; choose a new folder, or go on with `ernie5 resume {to}`")
    fork = replace(
        recipe.run, dir=str(to), tokenizers=recipe.run.tokenizers or str(folder.path), start_load="all",
        start_from=f"{folder.path}@{find_checkpoint(spec).step}",  # with its step, because that run may go on
    )
    return run_job(replace(recipe, run=fork))


def run_job(recipe: Recipe) -> int:
    """Prepare, train, evaluate, report; every rank of a distributed run calls this."""
    world = World.join(recipe.train.device)
    try:
        recipe.check(world.size)
        check_machine(recipe.parallel, world.device.type)
        set_numerics(recipe)
        folder = RunFolder(Path(recipe.run.folder))
        if world.rank == 0:
            forget_hang(folder.create().logs)
        world.barrier()
        with run_lock(folder.lock) if world.rank == 0 else contextlib.nullcontext(), logging_to(folder.logs, world.rank):
            return _run(recipe, folder, world)
    except BaseException as error:
        Failure.of(error).note()  # before the other ranks lose this one and fail as well
        raise
    finally:
        world.leave()


def set_numerics(recipe: Recipe) -> None:
    """Threads, and algorithms that give the same bits again."""
    if recipe.train.threads:
        torch.set_num_threads(recipe.train.threads)
    torch.use_deterministic_algorithms(recipe.train.deterministic, warn_only=True)


def _run(recipe: Recipe, folder: RunFolder, world: World) -> int:
    if world.rank == 0:
        if folder.recipe.exists() and has_begun(folder):
            check_recipe(load_config(Recipe, folder.recipe), recipe, begun=bool(list_steps(folder.checkpoints)))
        else:
            folder.write_recipe(to_yaml(recipe))
        first_screen(recipe, folder, world)
        prepare(recipe)
    world.barrier()
    tokenizers = load_tokenizers(recipe)
    quarantine = Quarantine(folder.logs / "quarantine.jsonl", recipe.data.tolerance)
    corpus = open_training_sources(recipe, quarantine, tokenizers)
    run = build_training(recipe, tokenizers, corpus, quarantine, world)
    prints = fingerprints(tokenizers)
    start(run, corpus, folder, prints)
    if run.step < recipe.train.steps:
        encode_ahead(run.loader.maker, run.loader.mixture.sizes, recipe.data.encode_ahead)
    metrics = MetricsLog(folder.metrics)
    if world.rank == 0:  # the recipe is accepted, and what a dead process did after its last checkpoint is undone
        folder.write_recipe(to_yaml(recipe))
        if run.step < recipe.train.steps:
            folder.write_code()
        metrics.truncate_after(run.step)
        forget_end(folder)
    utilization = Utilization(whole_on_meta(recipe, run.model.vocabulary), world.device, world.size, recipe.train.precision)
    saving = Saving(corpus, folder, prints, world)
    profiler = StepProfiler(folder.logs / "trace.json", recipe.train.profile_steps if world.rank == 0 else ())
    watchdog = Watchdog(folder.logs, world.rank, world.size, recipe.train.watchdog_s)
    with tracker(recipe, folder, world.rank == 0) as track, contextlib.closing(run.loader), watchdog as watch:

        def write(numbers: dict) -> None:
            watch.beat(numbers["step"])
            length = shape_of_step(recipe.train, numbers["step"], run.engine.data_size).length
            numbers = numbers | utilization(numbers, length)
            if world.rank == 0:
                metrics.append(numbers["step"], numbers)
                track(numbers)
            saving.report()

        def evaluate(r: Training) -> None:
            with watch.paused("evaluation"):
                evaluate_now(r, recipe, folder, world, saving)

        hooks = Hooks(write, saving.save, evaluate, profiler.step, saving)
        complete = train(run, recipe.train, world, hooks)
    if not complete:
        how = "and saved" if is_saved(run, folder) else "but could not save it"
        log.warning("stopped at step %d %s; the same command goes on from the last checkpoint", run.step, how)
        world.barrier()  # a launcher ends the others when the first one leaves
        return EXIT_STOPPED
    if world.rank == 0:
        if not is_saved(run, folder):
            raise ValueError(f"step {run.step} is done but could not be saved in {folder.checkpoints}; make room and run it again")
        if run.step < recipe.train.steps:
            note_end(folder, run.step)
        finish(recipe, folder, run.step)
    world.barrier()
    return 0


def check_recipe(saved: Recipe, now: Recipe, begun: bool) -> None:
    """ConfigError for what may not change while a run is under way. Sources may join (and weights change); none may leave. `begun`: the
    model has a checkpoint; before, only what the tokenizers are made of must stay.
    """
    known = {name: source for name, source in now.data.sources.items() if name in saved.data.sources}
    free = MAY_CHANGE if begun else (*MAY_CHANGE, *OF_THE_MODEL)
    check_unchanged(saved, replace(now, data=replace(now.data, sources=known)), free)


def has_begun(folder: RunFolder) -> bool:
    """Whether anything was made under the folder's recipe; a run that failed at once may be started again with the mistake repaired."""
    made = (path for part in (folder.checkpoints, folder.tokenizers, folder.data) for path in part.iterdir())
    return any(not path.name.startswith(".") for path in made)


def is_saved(run: Training, folder: RunFolder) -> bool:
    """Whether the step that the run has reached is on disk."""
    return run.step in list_steps(folder.checkpoints)


def evaluate_now(run: Training, recipe: Recipe, folder: RunFolder, world: World, saving: Saving) -> None:
    """A look at the unfinished model: samples/eval-STEP.json. Where no process holds all of it, its checkpoint is looked at, saved first
    if it must be.
    """
    from ernie5.train.evaluate import evaluate_model
    from ernie5.train.load import load_run

    if not run.engine.whole_model:
        saving.settle()
        if not all_saved(run, folder, world):
            saving.save(run)
            saving.settle()
    if world.rank == 0:
        out = folder.samples / f"eval-{run.step:08d}.json"
        try:
            model = run.model if run.engine.whole_model else load_run(f"{folder.path}@{run.step}", recipe.train.device)[1]
            evaluate_model(model, recipe, folder, out, run.step)
        except OSError as error:
            log.error("the evaluation of step %d could not be written (%s); training goes on", run.step, error.strerror)
        except CheckpointError as error:
            log.error("step %d is not evaluated: %s", run.step, error)
    run.model.train()
    world.barrier()


def all_saved(run: Training, folder: RunFolder, world: World) -> bool:
    """Whether all ranks see this step's checkpoint: they decide alike whether to save it."""
    return world.add([is_saved(run, folder)]) == [world.size]


def finish(recipe: Recipe, folder: RunFolder, step: int) -> None:
    """Evaluation, unless it is there already, and report of a run that is complete after `step` steps."""
    from ernie5.report.report import write_report
    from ernie5.train.evaluate import evaluate_run, evaluated_step

    if recipe.evaluate.at_end and evaluated_step(folder) != step:
        evaluate_run(folder.path)
    write_report(folder.path)
    log.info("complete: %s", folder.report)
