"""Train the tokenizers that a run lacks, on its own training sources: text at once, vision and audio side by side.

Two processes of one thread each use two cores far better than one process of two threads (measured: docs/experiments.md).
A kind of medium that no source holds gets an untrained tokenizer, and a warning: the model needs its sizes, the data never use it.
What a stopped or killed training saved is taken up again by the same command, bit for bit (tokenizers/fit.py).
"""

from __future__ import annotations

import logging
import shutil
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from ernie5.config import fingerprint, load_config, to_plain
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_train import train_causal_codec
from ernie5.tokenizers.audio.codec import AudioCodec
from ernie5.tokenizers.audio.train import train_audio_codec
from ernie5.tokenizers.fit import Saves
from ernie5.tokenizers.settings import TokenizersConfig
from ernie5.tokenizers.text_training import train_on_counts
from ernie5.tokenizers.vision.train import train_vision_tokenizer
from ernie5.tokenizers.vision.windows import WindowConfig
from ernie5.train.count_words import count_words_of
from ernie5.train.media_pool import CorpusPool
from ernie5.train.prepare import Corpus, make_demo, media_of, missing_tokenizers, open_training_sources, parts_folder
from ernie5.train.recordings import recordings_of
from ernie5.train.side_by_side import side_by_side

log = logging.getLogger(__name__)
SAVES = "training"  # in the folder of an unfinished tokenizer


def prepare(recipe: Recipe, only: str | None = None) -> None:
    """Make everything that is missing, or one tokenizer `only`. Called by one process; the others wait. Stopped: a signal came, and what
    was trained is saved."""
    make_demo(recipe)
    missing = [kind for kind in missing_tokenizers(recipe) if only in (None, kind)]
    if "text" in missing:
        train_one(recipe, "text")
    heavy = [kind for kind in missing if kind != "text"]
    if len(heavy) < 2 or not recipe.tokenizers.side_by_side:
        for kind in heavy:
            train_one(recipe, kind)
    else:
        side_by_side(_train_in_child, [(to_plain(recipe), kind) for kind in heavy])


def _train_in_child(plain: dict, kind: str) -> None:
    train_one(load_config(Recipe, plain), kind)


def train_one(recipe: Recipe, kind: str) -> None:
    """Train one tokenizer, from where an earlier attempt was, and put its folder in place when complete."""
    final = parts_folder(recipe).tokenizers / kind
    half = final.with_name(f".{kind}-half")
    saves = Saves(half / SAVES, _settings(recipe, kind), recipe.tokenizers.checkpoint_every)
    quarantine = Quarantine(RunFolder(Path(recipe.run.folder)).logs / "quarantine.jsonl", recipe.data.tolerance)
    corpus = open_training_sources(recipe, quarantine)
    config, at_most = recipe.tokenizers, recipe.tokenizers.max_media
    match kind:
        case "text":
            training = config.text.training
            counts = count_words_of(corpus, training, 100 * at_most if training.max_texts is None else training.max_texts)
            train_on_counts(counts, config.text.vocab_size, training).save(half)
        case "vision":
            images, clips = (_seen(corpus, kind, config.vision.windows, at_most) for kind in (Modality.IMAGE, Modality.VIDEO))
            if not len(images) and not len(clips):
                _say_untrained(kind)
            train_vision_tokenizer(config.vision, images, clips, seed=recipe.run.seed, saves=saves).save(half)
        case "audio":
            _train_audio(recipe, corpus, saves).save(half)
    shutil.rmtree(saves.folder, ignore_errors=True)
    half.rename(final)


def _seen(corpus: Corpus, kind: Modality, windows: WindowConfig | None, at_most: int) -> list[Tensor] | CorpusPool:
    """What the vision tokenizer is trained on: all media of any size, read when drawn, or some at the sizes of the run, in memory."""
    return CorpusPool(corpus, kind, windows) if windows else list(media_of(corpus, {kind}, at_most))


def _train_audio(recipe: Recipe, corpus: Corpus, saves: Saves) -> AudioCodec | CausalCodec:
    config, seed = recipe.tokenizers.audio, recipe.run.seed
    match config.kind:
        case "spectral":
            sounds = list(media_of(corpus, {Modality.AUDIO}, recipe.tokenizers.max_media))
            if sounds:
                return train_audio_codec(config.codec, sounds, seed=seed, training=config.training, saves=saves)
        case "causal":
            recordings = recordings_of(corpus, config.codec.sample_rate_hz, config.causal_training.cache_mib << 20)
            if recordings:
                return train_causal_codec(config.causal_codec, recordings, seed=seed, training=config.causal_training, saves=saves)
    _say_untrained("audio")
    return AudioCodec(config.codec) if config.kind == "spectral" else CausalCodec(config.causal_codec)


def _settings(recipe: Recipe, kind: str) -> str:
    """What a half-trained tokenizer depends on: a checkpoint of anything else is not taken up."""
    usual = TokenizersConfig()
    tokenizers = replace(recipe.tokenizers, side_by_side=usual.side_by_side, checkpoint_every=usual.checkpoint_every)
    return f"{kind}-{recipe.run.seed}-{fingerprint(tokenizers)}-{fingerprint(recipe.data)}"


def _say_untrained(kind: str) -> None:
    log.warning("no source holds media for the %s tokenizer: it stays untrained, and this run can neither read nor make such media", kind)
