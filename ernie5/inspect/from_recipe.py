"""What recipes and runs say about data: the recipe of a run folder, and where the sources of a recipe lie.

Ours.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from ernie5.data_pipelines.sources import SourceConfig
from ernie5.recipe import DEMO, Recipe
from ernie5.run.folder import RunFolder
from ernie5.train.load import load_recipe
from ernie5.train.prepare import parts_folder


def recipe_of(run: str) -> Recipe:
    """The recipe of a run. ValueError when the folder is no run."""
    folder = RunFolder(Path(run))
    if not folder.recipe.is_file():
        raise ValueError(f"{run} is no run folder: it lacks {folder.recipe.name}; give the folder of a run with trained tokenizers")
    return load_recipe(folder)


def sources_of(recipe: Recipe) -> dict[str, SourceConfig]:
    """The sources that a recipe trains on; those of the demo world where its run keeps it."""
    demo = parts_folder(recipe).data / "demo"
    found = {}
    for name, source in recipe.data.sources.items():
        part = source.path.removeprefix(DEMO)
        if part != source.path:
            source = replace(source, path=str(demo / part) if "*" in part else str(demo / f"{part}-*.tar"))
        found[name] = source
    return found
