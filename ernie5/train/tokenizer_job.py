"""What `ernie5 tokenizer train` does: the tokenizers of a recipe in its run folder, without the model."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from torch import nn

from ernie5.config import load_config, to_yaml
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import list_steps
from ernie5.run.folder import RunFolder
from ernie5.run.lock import run_lock
from ernie5.run.log import logging_to
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.codec import AudioCodec
from ernie5.tokenizers.settings import AudioTokenizerConfig, TokenizersConfig
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.train.job import check_recipe, has_begun
from ernie5.train.prepare import missing_tokenizers
from ernie5.train.train_tokenizers import prepare

log = logging.getLogger(__name__)


def train_tokenizers(recipe: Recipe, only: str | None = None) -> None:
    """Train what is missing, or the tokenizer `only`. Another run takes them over with run.tokenizers; `ernie5 train` of this one goes on
    from them. Stopped: a signal came, and what was trained is saved.
    """
    recipe.check()
    folder = RunFolder(Path(recipe.run.folder)).create()
    with run_lock(folder.lock), logging_to(folder.logs, rank=0):
        if folder.recipe.exists() and has_begun(folder):
            check_recipe(load_config(Recipe, folder.recipe), recipe, begun=bool(list_steps(folder.checkpoints)))
        else:
            folder.write_recipe(to_yaml(recipe))
        missing = [kind for kind in missing_tokenizers(recipe) if only in (None, kind)]
        for line in screen(recipe, folder, missing):
            log.info("%s", line)
        prepare(recipe, only)


def screen(recipe: Recipe, folder: RunFolder, missing: list[str]) -> list[str]:
    """What will happen, how big it is, where it goes."""
    config = recipe.tokenizers
    told = {"text": _text(config), "vision": _vision(config.vision), "audio": _audio(config.audio)}
    unfinished = [kind for kind in missing if (folder.tokenizers / f".{kind}-half").is_dir()]
    lines = [f"{kind:10} {told[kind]}" + ("  (going on)" if kind in unfinished else "") for kind in missing]
    sources = ", ".join(f"{name} ({source.path})" for name, source in recipe.data.sources.items())
    if not missing:
        return [f"tokenizers all there: {folder.tokenizers}"]
    after = f"then       {folder.tokenizers}; ernie5 tokenizer eval {folder.path}"
    return [f"run        {folder.path}", *lines, f"data       {sources}", after]


def _text(config: TokenizersConfig) -> str:
    training = config.text.training
    most = training.max_texts or 100 * config.max_media
    pruned = ", phrases of unspaced scripts left out" if training.prune else ""
    return f"{config.text.vocab_size:,} tokens from up to {most:,} texts{pruned}"


def _vision(config: VisionTokenizerConfig) -> str:
    with torch.device("meta"):
        network = CausalAutoencoder(config.autoencoder)
    critics = f", critics from step {config.adversarial.start:,}" if config.adversarial.weight else ""
    return (f"stride {config.autoencoder.stride}, {config.bits} bits, {_millions(network)}; {config.image_steps:,} steps of pictures, "
            f"{config.video_steps:,} with clips{critics}, on {config.device}")


def _audio(config: AudioTokenizerConfig) -> str:
    codec, causal = config.codec, config.kind == "causal"
    with torch.device("meta"):
        network: nn.Module = CausalCodec(config.causal_codec) if causal else AudioCodec(codec)
    training = config.causal_training if causal else config.training
    rate_hz = codec.sample_rate_hz / codec.hop_samples
    return (f"{config.kind}, {codec.num_codebooks} levels of {codec.codebook_size} codes at {rate_hz:g} Hz, {_millions(network)}; "
            f"{training.num_steps:,} steps")


def _millions(network: nn.Module) -> str:
    return f"{sum(p.numel() for p in network.parameters()) / 1e6:.2f} M parameters"
