"""Recipes of the text tokenizer load, pass their rules and say what they cost."""

from pathlib import Path

import pytest

from ernie5.config import load_config, to_plain
from ernie5.recipe import Recipe

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "tokenizers").glob("text_*.yaml"))


def test_three_sizes_of_text_are_there() -> None:
    assert [path.stem for path in RECIPES] == ["text_base", "text_large", "text_tiny"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_text_recipe_is_sound_and_says_what_it_costs(path: Path) -> None:
    recipe = load_config(Recipe, path)
    recipe.check()
    assert recipe.run.name == path.stem and load_config(Recipe, to_plain(recipe)) == recipe
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert all(f"{word}:" in header for word in ("command", "hardware", "time", "expect"))
    assert f"recipes/tokenizers/{path.name} --only text" in header
