"""Every shipped recipe loads, passes its own rules, says what it costs, and builds on the meta device."""

from pathlib import Path

import pytest
import torch

from ernie5.config import load_config, to_plain, to_yaml
from ernie5.model.config import Vocabulary
from ernie5.model.count import count
from ernie5.recipe import Recipe
from ernie5.train.assemble import build_model

RECIPES = sorted((Path(__file__).parents[1] / "recipes").glob("*.yaml"))


def recipe(path: Path) -> Recipe:
    return load_config(Recipe, path)


def test_the_two_of_the_readme_are_there() -> None:
    assert {"tiny_cpu", "demo_cpu"} <= {path.stem for path in RECIPES}


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_sound_and_says_what_it_costs(path: Path) -> None:
    settings = recipe(path)
    settings.check()
    assert settings.run.name == path.stem
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command:", "hardware:", "time:", "expect:"):
        assert any(word in line for line in header), f"the header of {path.name} lacks {word}"
    assert load_config(Recipe, to_plain(settings)) == settings and to_yaml(settings)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_on_the_meta_device(path: Path) -> None:
    settings = recipe(path)
    vision, audio = settings.tokenizers.vision, settings.tokenizers.audio.codec
    sizes = Vocabulary(settings.tokenizers.text.vocab_size, vision.bits, audio.num_codebooks, audio.codebook_size, vision.channels[-1])
    with torch.device("meta"):
        model = build_model(settings, sizes)
    size = count(model, settings.train.length)
    assert all(parameter.is_meta for parameter in model.parameters())
    assert 0 < size.active < size.total


def test_tiny_has_the_shape_that_splits_divide() -> None:
    settings = recipe(next(path for path in RECIPES if path.stem == "tiny_cpu"))
    model = settings.model
    assert model.num_layers >= 6 and model.num_experts == 16 and model.top_k == 2
    assert settings.tokenizers.audio.codec.num_codebooks == 3
    assert all(n % 4 == 0 for n in (model.dim, model.num_heads, model.num_kv_heads, model.num_experts, model.expert_dim))
    assert not settings.elastic.on
