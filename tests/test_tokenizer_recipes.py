"""Recipes that train one tokenizer: each loads, says what it costs, and builds on the meta device with the size that it states."""

import re
from pathlib import Path

import pytest
import torch

from ernie5.cli.recipes import shipped
from ernie5.config import load_config, to_plain
from ernie5.recipe import Recipe
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.critic import SoundCritic
from ernie5.tokenizers.vision.critic import ClipCritic
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "tokenizers").glob("*.yaml"))


def of(kind: str) -> list[Path]:
    return [path for path in RECIPES if path.stem.startswith(kind)]


def stated_millions(path: Path) -> float:
    said = re.search(r"([\d.]+) M parameters", path.read_text())
    assert said, "the header states the size"
    return float(said[1])


def test_there_is_one_of_each_size() -> None:
    kinds, sizes = ("audio", "text", "vision"), ("base", "large", "tiny")
    assert [path.stem for path in RECIPES] == [f"{kind}_{size}" for kind in kinds for size in sizes]
    assert {path.stem for path in RECIPES} < shipped().keys()  # found by their names


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_sound_and_says_what_it_costs(path: Path) -> None:
    recipe = load_config(Recipe, path)
    recipe.check()
    assert recipe.run.name == path.stem and load_config(Recipe, to_plain(recipe)) == recipe
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    for word in ("command:", "hardware:", "time:", "expect:"):
        assert re.search(rf"{word} +\S", header), f"the header of {path.name} says nothing after {word}"
    assert f"recipes/tokenizers/{path.name} --only {path.stem.partition('_')[0]}" in header


@pytest.mark.parametrize("path", of("vision"), ids=lambda path: path.stem)
def test_vision_recipe_builds(path: Path) -> None:
    config = load_config(Recipe, path).tokenizers.vision
    with torch.device("meta"):
        tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig(config.autoencoder, 12, config.scales))
        if config.adversarial.weight:
            ClipCritic(config.adversarial.channels)
    stride, (height, width) = tokenizer.stride, config.windows.sizes[0]
    total = tokenizer.autoencoder.decoder(torch.empty(1, 1, config.bits, height // stride, width // stride, device="meta"))
    assert total.shape == (1, 1, 3 * config.stem**2, height // config.stem, width // config.stem)
    assert len(tokenizer.quantizer.scales(height // stride, width // stride)) > 2
    assert sum(p.numel() for p in tokenizer.autoencoder.parameters()) / 1e6 == pytest.approx(stated_millions(path), rel=0.03)


@pytest.mark.parametrize("path", of("audio"), ids=lambda path: path.stem)
def test_audio_recipe_builds(path: Path) -> None:
    audio = load_config(Recipe, path).tokenizers.audio
    training = audio.causal_training
    with torch.device("meta"):
        codec = CausalCodec(audio.causal_codec)
        critic = SoundCritic(training.critic_windows, training.critic_periods, training.adversarial.channels)
    assert audio.kind == "causal" and codec.frame_rate_hz == 12.5
    assert audio.causal_codec.latency_samples <= 0.03 * codec.sample_rate_hz
    assert all(p.is_meta for p in (*codec.parameters(), *critic.parameters()))
    assert sum(p.numel() for p in codec.parameters()) / 1e6 == pytest.approx(stated_millions(path), rel=0.03)
