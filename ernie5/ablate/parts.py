"""Tokenizers and demo data, made once and shared by all runs that need the same: DIR/parts, an ordinary run folder without a model.

Runs whose `tokenizers` or `data.demo` differ get folders of their own. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ernie5.config import check_unchanged, fingerprint, load_config, to_yaml
from ernie5.recipe import DataConfig, Recipe, RunConfig
from ernie5.run.folder import RunFolder
from ernie5.run.lock import run_lock
from ernie5.train.steps import TrainConfig


def share_parts(recipes: Sequence[Recipe], folder: Path, seed: int) -> tuple[list[Recipe], tuple[Recipe, ...]]:
    """The recipes with `run.tokenizers` set, and the recipes of the folders that it names; `seed` is that of the tokenizers."""
    groups: dict[str, list[Recipe]] = {}
    for recipe in recipes:
        if recipe.run.tokenizers is None:
            groups.setdefault(_needs(recipe), []).append(recipe)
    parts = {}
    for key, members in groups.items():
        model = next((recipe for recipe in members if recipe.data.uses_demo), members[0])
        name = "parts" if len(groups) == 1 else f"parts-{members[0].run.name.rpartition('-seed')[0]}"
        parts[key] = _parts_recipe(model, str(folder / name), seed)
    shared = [recipe if recipe.run.tokenizers is not None else
              replace(recipe, run=replace(recipe.run, tokenizers=parts[_needs(recipe)].run.folder)) for recipe in recipes]
    return shared, tuple(parts.values())


def check_parts(recipe: Recipe) -> None:
    """ValueError when the folder holds parts of another kind."""
    folder = RunFolder(Path(recipe.run.folder))
    if folder.recipe.exists():
        try:
            check_unchanged(load_config(Recipe, folder.recipe), recipe, ("run.dir", "train"))
        except ValueError as error:
            raise ValueError(f"{folder.path} was made for another ablation: {error}; or choose another folder with --out") from None


def prepare_parts(recipe: Recipe) -> None:
    """Make what is missing of it."""
    from ernie5.train.job import set_numerics
    from ernie5.train.train_tokenizers import prepare

    folder = RunFolder(Path(recipe.run.folder)).create()
    with run_lock(folder.lock):
        folder.write_recipe(to_yaml(recipe))
        set_numerics(recipe)
        prepare(recipe)


def _needs(recipe: Recipe) -> str:
    return fingerprint(Recipe(tokenizers=recipe.tokenizers, data=DataConfig(demo=recipe.data.demo)))


def _parts_recipe(recipe: Recipe, folder: str, seed: int) -> Recipe:
    data = DataConfig(demo=recipe.data.demo, sources=recipe.data.sources, heldout=recipe.data.heldout, limits=recipe.data.limits)
    train = TrainConfig(threads=recipe.train.threads, deterministic=recipe.train.deterministic)
    return Recipe(run=RunConfig(name="parts", dir=folder, seed=seed), data=data, tokenizers=recipe.tokenizers, train=train)
