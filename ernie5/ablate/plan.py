"""The runs of an ablation: the product of all axes and seeds, each with its whole recipe.

    base  <  the recipe's keys of the ablation file  <  one choice of every axis  <  run.seed, run.dir, run.name

For one seed the order of the data is the same in every variant. Ours.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from ernie5.ablate.base import Base, find_base
from ernie5.ablate.file import AblationFile, Change, Choice, read_ablation
from ernie5.ablate.parts import share_parts
from ernie5.config import to_plain
from ernie5.config_build import build
from ernie5.config_yaml import ConfigError, Located, locate, merge, put
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder


@dataclass(frozen=True)
class Variant:
    """One choice of every axis; the first variant is the one that the others are compared with."""

    labels: dict[str, str]           # axis -> label
    name: str
    changes: tuple[Change, ...]


@dataclass(frozen=True)
class PlannedRun:
    """One variant with one seed."""

    variant: Variant
    seed: int
    recipe: Recipe

    @property
    def name(self) -> str:
        return self.recipe.run.name

    @property
    def steps(self) -> range:
        """The steps that it takes; with `run.start_load: all` those after its origin's."""
        _, at, step = (self.recipe.run.start_from or "").rpartition("@")
        first = int(step) if at and step.isdecimal() and self.recipe.run.start_load == "all" else 0
        return range(first + 1, self.recipe.train.steps + 1)

    @property
    def folder(self) -> RunFolder:
        return RunFolder(Path(self.recipe.run.folder))


@dataclass(frozen=True)
class Plan:
    """Everything that will run: all variants with one seed, then with the next, so that there is a table early. `parts`: recipes of the
    folders with tokenizers and demo data that runs share.
    """

    file: AblationFile
    base: Base
    folder: Path
    variants: tuple[Variant, ...]
    runs: tuple[PlannedRun, ...]
    parts: tuple[Recipe, ...]

    def of(self, variant: Variant) -> list[PlannedRun]:
        """The runs of a variant, one a seed."""
        return [run for run in self.runs if run.variant is variant]


def plan_ablation(path: Path, out: Path | None, shipped: Mapping[str, Path]) -> Plan:
    """Read the file and build every recipe. ConfigError for the first mistake in any of them; writes nothing."""
    file = read_ablation(path)
    base = find_base(file.base, path, shipped)
    folder = out or Path(file.dir)
    common = merge(put(locate(to_plain(base.recipe), base.shown), ["evaluate", "at_end"], Located(True, str(path))), file.settings)
    variants = tuple(_variant(dict(zip((axis.name for axis in file.axes), choices, strict=True)))
                     for choices in product(*(axis.choices for axis in file.axes)))
    twice = next((v.name for i, v in enumerate(variants) if v.name in {w.name for w in variants[:i]}), None)
    if twice is not None:
        raise ConfigError(f"{path}: two variants would be called {twice}; give their axes other labels")
    recipes = [(variant, seed, _recipe(common, variant, seed, folder, file, base)) for seed in file.seeds for variant in variants]
    shared, parts = share_parts([recipe for _, _, recipe in recipes], folder, base.recipe.run.seed)
    runs = tuple(PlannedRun(variant, seed, recipe) for (variant, seed, _), recipe in zip(recipes, shared, strict=True))
    return Plan(file, base, folder, variants, runs, parts)


def _variant(chosen: Mapping[str, Choice]) -> Variant:
    return Variant(
        labels={axis: choice.label for axis, choice in chosen.items()}, name="-".join(choice.slug for choice in chosen.values()),
        changes=tuple(change for choice in chosen.values() for change in choice.changes),
    )


def _recipe(common: Located, variant: Variant, seed: int, folder: Path, file: AblationFile, base: Base) -> Recipe:
    name = f"{variant.name}-seed{seed}"
    tree = common
    for change in variant.changes:
        tree = put(tree, change.key.split("."), change.value)
    for key, value in (("name", name), ("dir", str(folder / name)), ("seed", seed)):
        tree = put(tree, ["run", key], Located(value, str(file.path)))
    recipe = build(Recipe, tree)
    _check(recipe, name, variant.changes, file, base)
    return recipe


def _check(recipe: Recipe, name: str, changes: Sequence[Change], file: AblationFile, base: Base) -> None:
    """The rules of a recipe and of an ablation; ConfigError naming the run."""
    try:
        recipe.check()
    except ValueError as error:
        raise ConfigError(f"{file.path}: {name}: {error}") from None
    if not recipe.evaluate.at_end:
        raise ConfigError(f"{file.path}: {name}: evaluate.at_end must stay true, the table needs the held-out loss; "
                          "evaluate.media = false leaves out the rest")
    if not recipe.data.heldout:
        raise ConfigError(f"{file.path}: {name}: data.heldout is empty; name the sources that measure the loss")
    if recipe.run.tokenizers is not None:
        for change in changes:
            if change.key.startswith(("tokenizers", "data.demo")) and not change.key.startswith("tokenizers.parts"):
                raise ConfigError(f"{change.value.where}: {change.key} cannot vary: all runs take tokenizers and demo data from "
                                  f"run.tokenizers = {recipe.run.tokenizers}; begin with a recipe that names no run")
    if base.branch and (recipe.tokenizers, recipe.data.demo) != (base.recipe.tokenizers, base.recipe.data.demo):
        raise ConfigError(f"{file.path}: tokenizers and data.demo of a branch are those of {base.branch}; leave them as they are")
    if recipe.run.start_from is not None and recipe.run.tokenizers is None:
        raise ConfigError(f"{file.path}: {name}: run.start_from = {recipe.run.start_from} needs run.tokenizers, the folder of the run "
                          "whose tokenizers those weights know")
