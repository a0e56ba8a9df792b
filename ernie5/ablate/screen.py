"""What an ablation says before it starts, and the list of its runs. Ours."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from ernie5.ablate.plan import Plan, PlannedRun
from ernie5.ablate.state import is_finished, last_step
from ernie5.model.count import ModelSize
from ernie5.recipe import Recipe
from ernie5.report.facts import short
from ernie5.run.folder import RunFolder
from ernie5.train.prepare import missing_tokenizers
from ernie5.train.steps import shape_of_step


def first_screen(plan: Plan, sizes: Mapping[str, ModelSize], jobs: int) -> str:
    """What will happen, and how big it is."""
    file, recipes = plan.file, [run.recipe for run in plan.runs]
    steps, positions = sum(len(run.steps) for run in plan.runs), sum(map(positions_of, plan.runs))
    finished = sum(is_finished(run.folder, run.recipe.train.steps) for run in plan.runs)
    begun = sum(last_step(run.folder) > 0 for run in plan.runs) - finished
    state = "".join(f"; {n} {what}" for n, what in ((finished, "finished"), (begun, "begun")) if n > 0)
    lines = [
        ("ablation", f"{file.name}: {file.title}"),
        ("base", plan.base.shown + (_taken(recipes) if plan.base.branch else "")),
        *((f"axis {i + 1}" if len(file.axes) > 1 else "axis", f"{axis.name}: {', '.join(choice.label for choice in axis.choices)}")
          for i, axis in enumerate(file.axes)),
        ("seeds", ", ".join(map(str, file.seeds))),
        ("runs", f"{len(plan.variants)} variants x {len(file.seeds)} seed(s) = {len(recipes)} runs: {steps:,} steps, "
                 f"{short(positions)} positions{state}"),
        ("model", f"{_range([s.total for s in sizes.values()])} parameters, {_range([s.active for s in sizes.values()])} active per token"),
        ("first", _parts(plan)),
        ("then", "held-out loss" + (" and judged samples" if any(recipe.evaluate.media for recipe in recipes) else "") + " of every run"),
        ("at a time", f"{jobs} of {_threads(recipes[0])} thread(s){_crowded(recipes[0], jobs)}"),
        ("into", f"{plan.folder}/ablation.html"),
    ]
    return "\n".join(f"{name:11}{told}" for name, told in lines if told)


def list_runs(plan: Plan, sizes: Mapping[str, ModelSize]) -> str:
    """One line a run."""
    width = max(len(run.name) for run in plan.runs)
    lines = [f"{'run':{width}}{'steps':>9}{'positions':>14}{'parameters':>12}{'active':>10}  state"]
    for run in plan.runs:
        size = sizes[run.name]
        lines.append(f"{run.name:{width}}{len(run.steps):>9,}{positions_of(run):>14,}{short(size.total):>12}"
                     f"{short(size.active):>10}  {_state(run)}")
    total = f"{sum(len(run.steps) for run in plan.runs):>9,}{sum(map(positions_of, plan.runs)):>14,}"
    return "\n".join([*lines, f"{'together':{width}}{total}"])


def positions_of(run: PlannedRun) -> int:
    """Positions of all its steps, padding included."""
    shapes = (shape_of_step(run.recipe.train, step, 1, run.recipe.elastic.slots) for step in run.steps)
    return sum(shape.rows * shape.length for shape in shapes)


def _state(run: PlannedRun) -> str:
    if is_finished(run.folder, run.recipe.train.steps):
        return "finished"
    step = last_step(run.folder)
    return f"at step {step}" if step else "to do"


def _range(counts: Sequence[int]) -> str:
    return " to ".join(dict.fromkeys(short(pick(counts)) for pick in (min, max)))


def _parts(plan: Plan) -> str:
    """What is made once for all runs."""
    if not plan.parts:
        return ""
    missing = {parts.run.folder: _missing(parts) for parts in plan.parts}
    if len(missing) == 1:
        ((folder, names),) = missing.items()
        return f"tokenizers and data for all runs in {folder}: " + (f"to make: {', '.join(names)}" if names else "all there")
    return f"tokenizers and data in {len(missing)} folders {plan.folder}/parts-…; to make: {sum(map(bool, missing.values()))}"


def _missing(parts: Recipe) -> list[str]:
    demo = RunFolder(Path(parts.run.folder)).data / "demo"
    return [*(["demo data"] if parts.data.uses_demo and not demo.is_dir() else []), *missing_tokenizers(parts)]


def _taken(recipes: Sequence[Recipe]) -> str:
    return ", taking " + " or ".join(dict.fromkeys("all of its state" if r.run.start_load == "all" else "its weights" for r in recipes))


def _threads(recipe: Recipe) -> int:
    return recipe.train.threads or torch.get_num_threads()


def _crowded(recipe: Recipe, jobs: int) -> str:
    cores = os.cpu_count() or 1
    crowded = jobs * _threads(recipe) > cores
    return f": more than the {cores} cores here; put train: {{threads: {max(1, cores // jobs)}}} into the file" if crowded else ""
