"""The recipes of the audio codec load, pass their rules, say what they cost, and build on the meta device with the size that they state."""

import re
from pathlib import Path

import pytest
import torch

from ernie5.config import load_config, to_plain
from ernie5.recipe import Recipe
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.critic import SoundCritic

RECIPES = sorted((Path(__file__).parents[1] / "recipes" / "tokenizers").glob("audio_*.yaml"))


def test_three_sizes_are_there():
    assert [path.stem for path in RECIPES] == ["audio_base", "audio_large", "audio_tiny"]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_is_sound_and_says_what_it_costs(path):
    settings = load_config(Recipe, path)
    settings.check()
    assert settings.run.name == path.stem and settings.tokenizers.audio.kind == "causal"
    assert load_config(Recipe, to_plain(settings)) == settings
    header = "\n".join(line for line in path.read_text().splitlines() if line.startswith("#"))
    assert all(f"{word}:" in header for word in ("command", "hardware", "time", "expect"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_recipe_builds_with_the_size_that_it_states(path):
    audio = load_config(Recipe, path).tokenizers.audio
    with torch.device("meta"):
        codec = CausalCodec(audio.causal_codec)
        training = audio.causal_training
        critic = SoundCritic(training.critic_windows, training.critic_periods, training.adversarial.channels)
    assert codec.frame_rate_hz == 12.5 and audio.causal_codec.latency_samples <= 0.03 * codec.sample_rate_hz
    assert all(p.is_meta for p in (*codec.parameters(), *critic.parameters()))
    said = re.search(r"([\d.]+) M parameters", path.read_text())
    assert said, "the header states the size"
    assert sum(p.numel() for p in codec.parameters()) / 1e6 == pytest.approx(float(said[1]), rel=0.03)
