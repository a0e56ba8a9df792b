"""Every shipped recipe loads, passes its own rules, says what it costs, and builds on the meta device; planned ones fit their hardware."""

import re
from pathlib import Path

import pytest
import torch

from ernie5.config import load_config, to_plain, to_yaml
from ernie5.model.config import Vocabulary
from ernie5.model.count import count
from ernie5.planner.run import plan_recipe
from ernie5.recipe import Recipe
from ernie5.train.assemble import build_model, planned_size

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


PLANNED = {"one_gpu", "eight_gpus", "ablation_3b", "ernie5_2t"}


@pytest.mark.parametrize("path", [path for path in RECIPES if path.stem in PLANNED], ids=lambda path: path.stem)
def test_planned_recipe_fits_the_hardware_of_its_header(path: Path) -> None:
    words = re.search(rf"ernie5 plan {path.stem} --gpus (\d+) --gpu (\w+)", path.read_text())
    assert words, "the header says how to plan it"
    said, works = plan_recipe(path, (), int(words[1]), words[2], None, searching=False)
    assert works, said
    assert "planned, not run" in path.read_text()


def test_the_report_scale_and_its_ablation() -> None:
    large, small = (recipe(next(path for path in RECIPES if path.stem == name)) for name in ("ernie5_2t", "ablation_3b"))
    size = planned_size(large)
    assert size.total == pytest.approx(2.4e12, rel=0.02) and size.active < 0.03 * size.total
    plan = large.parallel
    assert (plan.tensor, plan.pipeline, plan.expert, plan.zero) == (4, 12, 64, 1) and plan.virtual_pipeline > 1
    size = planned_size(small)
    assert (small.model.num_layers, small.model.num_experts, small.model.top_k) == (16, 64, 8)
    assert size.total == pytest.approx(3.2e9, rel=0.04) and size.active == pytest.approx(454e6, rel=0.04)
    assert large.elastic.on and small.elastic.on
