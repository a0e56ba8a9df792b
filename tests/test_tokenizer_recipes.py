"""Recipes that train one tokenizer: each loads, says what it costs, and builds on the meta device."""

from pathlib import Path

import pytest
import torch

from ernie5.config import load_config, to_plain
from ernie5.recipe import Recipe
from ernie5.tokenizers.vision.critic import ClipCritic
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer

VISION = sorted((Path(__file__).parents[1] / "recipes" / "tokenizers").glob("vision_*.yaml"))


def test_there_is_one_of_each_size() -> None:
    assert [path.stem for path in VISION] == ["vision_base", "vision_large", "vision_tiny"]


@pytest.mark.parametrize("path", VISION, ids=lambda path: path.stem)
def test_vision_recipe_is_sound_and_builds(path: Path) -> None:
    recipe = load_config(Recipe, path)
    recipe.check()
    assert recipe.run.name == path.stem and load_config(Recipe, to_plain(recipe)) == recipe
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command:", "hardware:", "time:", "expect:"):
        assert any(word in line for line in header), f"the header of {path.name} lacks {word}"
    assert f"recipes/tokenizers/{path.name} --only vision" in path.read_text()
    config = recipe.tokenizers.vision
    with torch.device("meta"):
        tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig(config.autoencoder, 12, config.scales))
        if config.adversarial.weight:
            ClipCritic(config.adversarial.channels)
    stride, (height, width) = tokenizer.stride, config.windows.sizes[0]
    total = tokenizer.autoencoder.decoder(torch.empty(1, 1, config.bits, height // stride, width // stride, device="meta"))
    assert total.shape == (1, 1, 3 * config.stem**2, height // config.stem, width // config.stem)
    assert len(tokenizer.quantizer.scales(height // stride, width // stride)) > 2
    size = sum(p.numel() for p in tokenizer.autoencoder.parameters()) / 1e6
    assert f"{size:.1f} M parameters" in path.read_text()
