"""What `base:` of an ablation names: a recipe, or a run to branch from.

A branch takes the recipe and the tokenizers of its run and begins with its weights (`run.start_load: weights`; `all` goes on with
optimizer, data position and step as well). Ours.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path

from ernie5.config import load_config
from ernie5.config_build import convert
from ernie5.config_yaml import ConfigError, Located
from ernie5.recipe import Recipe
from ernie5.train.checkpoints import find_checkpoint, find_run
from ernie5.train.load import load_recipe


@dataclass(frozen=True)
class Base:
    """The recipe below all variants; `branch` is RUN_DIR@STEP when it is that of a run."""

    recipe: Recipe
    shown: str
    branch: str | None = None


def find_base(named: Located, file: Path, shipped: Mapping[str, Path]) -> Base:
    """A file beside the ablation's, a shipped recipe, or a run (seen from the working folder, then from the file); else ConfigError."""
    word: str = convert(str, named, "base")
    beside = file.parent / word
    path = beside if beside.is_file() else shipped.get(word.removesuffix(".yaml"))
    if path is not None:
        return Base(load_config(Recipe, path), os.path.normpath(path))
    spec = next((spec for spec in (word, str(beside)) if _is_run(spec)), None)
    if spec is None:
        near = get_close_matches(Path(word).name, [*(p.name for p in beside.parent.glob("*.yaml")), *shipped], n=1, cutoff=0.5)
        raise ConfigError(f"{named.where}: base = {word} is no recipe beside this file, no shipped recipe and no run folder"
                          + (f"; did you mean {near[0]}?" if near else "; see ernie5 recipes list"))
    try:
        folder, _ = find_run(spec)
        branch = f"{folder.path}@{find_checkpoint(spec).step}"
    except ConfigError:
        raise
    except ValueError as error:
        raise ConfigError(f"{named.where}: base = {word}: {error}") from None
    recipe = load_recipe(folder)
    run = replace(recipe.run, tokenizers=recipe.run.tokenizers or str(folder.path), start_from=branch, start_load="weights")
    return Base(replace(recipe, run=run), branch, branch)


def _is_run(spec: str) -> bool:
    name, at, _ = spec.rpartition("@")
    return Path(spec).is_dir() or bool(at and Path(name).is_dir())
