"""What recipes and runs say about data: the recipe of a run folder, and where the sources of a recipe lie.

Ours.
"""

from __future__ import annotations

from pathlib import Path

from ernie5.data_pipelines.sources import SourceConfig
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.train.load import load_recipe
from ernie5.train.prepare import placed


def recipe_of(run: str) -> Recipe:
    """The recipe of a run. ValueError when the folder is no run."""
    folder = RunFolder(Path(run))
    if not folder.recipe.is_file():
        raise ValueError(f"{run} is no run folder: it lacks {folder.recipe.name}; give the folder of a run with trained tokenizers")
    return load_recipe(folder)


def sources_of(recipe: Recipe) -> dict[str, SourceConfig]:
    """The sources that a recipe trains on; those of the demo world where its run keeps it."""
    return {name: placed(recipe, source) for name, source in recipe.data.sources.items()}
