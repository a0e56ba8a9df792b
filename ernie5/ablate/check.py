"""What can be found out about every run of an ablation before the first one starts.

The model of each is built on the meta device; weights to begin with are held against it, tensor by tensor; folders that were begun must
belong to the same recipe. Ours.
"""

from __future__ import annotations

from functools import cache

import torch

from ernie5.ablate.parts import check_parts
from ernie5.ablate.plan import Plan, PlannedRun
from ernie5.config import check_unchanged, fingerprint, load_config
from ernie5.model.count import ModelSize
from ernie5.parallel.shards import WeightsOnly
from ernie5.recipe import Recipe
from ernie5.run.parts import load_part
from ernie5.train.assemble import build_model, planned_size, vocabulary_of
from ernie5.train.checkpoints import find_checkpoint
from ernie5.train.job import has_begun
from ernie5.train.prepare import load_tokenizers, missing_tokenizers

MAY_CHANGE = ("run.dir", "run.name", "run.tokenizers", "train.checkpoint_every", "train.keep_last", "train.evaluate_every", "train.threads",
              "train.prefetch", "train.profile_steps", "data.tolerance", "data.cache_gib", "data.encode_ahead", "log")
Shapes = dict[str, tuple[int, ...]]


def check_plan(plan: Plan) -> dict[str, ModelSize]:
    """The size of every run's model, by name of the run. ValueError naming the run for whatever would stop one of them later."""
    for parts in plan.parts:
        check_parts(parts)
    made_here = {parts.run.folder for parts in plan.parts}
    origin = cache(_origin)
    sizes: dict[str, ModelSize] = {}  # equal models are measured once
    fitting = set()
    found = {}
    for run in plan.runs:
        recipe = run.recipe
        kind = fingerprint(Recipe(model=recipe.model, understanding=recipe.understanding, tokenizers=recipe.tokenizers))
        try:
            load_part(recipe.train.objective)
            if kind not in sizes:
                sizes[kind] = planned_size(recipe)
            if recipe.run.tokenizers not in made_here:
                missing_tokenizers(recipe)
            if recipe.run.start_from is not None:
                step, shapes = origin(recipe.run.start_from)
                _check_steps(recipe, step)
                pair = (kind, recipe.run.start_from, recipe.run.tokenizers)
                if pair not in fitting:
                    _check_fit(recipe, shapes)
                    fitting.add(pair)
            _check_begun(run)
        except ValueError as error:
            raise ValueError(f"{plan.file.path}: {run.name}: {error}") from None
        found[run.name] = sizes[kind]
    return found


def _origin(spec: str) -> tuple[int, Shapes]:
    """Step of a checkpoint and the shapes of its weights."""
    saved = find_checkpoint(spec)
    return saved.step, {name.removeprefix("model."): shape for name, shape in WeightsOnly(saved).shapes.items()}


def _check_fit(recipe: Recipe, there: Shapes) -> None:
    """The weights of `run.start_from` must have the names and shapes of this model's."""
    vocabulary = vocabulary_of(recipe, load_tokenizers(recipe))
    with torch.device("meta"):
        model = build_model(recipe, vocabulary)
    here = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    other = [name for name in here | there if here.get(name) != there.get(name)]
    if other:
        name = other[0]
        more = f", and {len(other) - 1} more differ" if len(other) > 1 else ""
        raise ValueError(f"the weights of run.start_from = {recipe.run.start_from} do not fit this model: {name} is {_shape(there, name)} "
                         f"there and {_shape(here, name)} here{more}; keep the model of that run, or train from a recipe (base: RECIPE)")


def _shape(shapes: Shapes, name: str) -> str:
    return " x ".join(map(str, shapes[name])) or "one number" if name in shapes else "missing"


def _check_steps(recipe: Recipe, step: int) -> None:
    if recipe.run.start_load == "all" and recipe.train.steps <= step:
        raise ValueError(f"train.steps = {recipe.train.steps} must be more than {step}, the step of run.start_from = "
                         f"{recipe.run.start_from}, because run.start_load = all goes on counting there")


def _check_begun(run: PlannedRun) -> None:
    """A run that was begun, or is done, must be the one that is planned now."""
    folder = run.folder
    if not all(path.is_dir() for path in (folder.checkpoints, folder.tokenizers, folder.data)) or not folder.recipe.exists():
        return
    if has_begun(folder):
        try:
            check_unchanged(load_config(Recipe, folder.recipe), run.recipe, MAY_CHANGE)
        except ValueError as error:
            raise ValueError(f"{error}; or choose another folder with --out, or delete {folder.path}") from None
