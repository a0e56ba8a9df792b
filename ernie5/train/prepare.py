"""What must exist before training: the demo world if the recipe asks for it, and tokenizers.

Both are kept in the run folder (`data/demo`, `tokenizers/{text,vision,audio}`), or taken from `run.tokenizers`, another run's folder. What
is already there is not made again; a half-made folder never counts, because folders appear under their name when complete.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ernie5.data_pipelines.augment import PLAIN, AugmentConfig, View
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.encode import Tokenizers
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.sample_maker import Views
from ernie5.data_pipelines.sources import Source, SourceConfig, open_source
from ernie5.data_pipelines.synthetic.demo import write_demo
from ernie5.recipe import DEMO, Recipe
from ernie5.run.folder import RunFolder
from ernie5.run.parts import load_part
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality, Sample
from ernie5.tokenizers.audio.own import OwnAudioCodec
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer

log = logging.getLogger(__name__)
OURS = {"text": Utf16Tokenizer, "vision": VisionGenerationTokenizer, "audio": OwnAudioCodec}


@dataclass(frozen=True)
class Corpus:
    """Opened sources by name, and how their records become samples. `augment`: for those that are augmented; held-out data never is."""

    recipe: Recipe
    sources: dict[str, Source]
    augment: dict[str, AugmentConfig] = field(default_factory=dict)

    def sample(self, source: str, index: int) -> Sample:
        """One decoded sample without any draw, its images in their aspect buckets; ValueError when it is damaged."""
        config = self.augment.get(source)
        return self._decoded(source, index, View(sizes=config.aspect_buckets) if config else PLAIN)

    def views(self) -> Views | None:
        """What training reads instead where a sample is another one in every draw."""
        drawn = frozenset(name for name, config in self.augment.items() if config.draws)
        longer = frozenset(name for name in drawn if self.augment[name].changes_lengths)
        return Views(self._view, drawn, longer) if drawn else None

    def _view(self, draw: Draw) -> Sample:
        view = self.augment[draw.source].view(stream(self.recipe.run.seed, "augment", draw.number))
        return self._decoded(draw.source, draw.place, view)

    def _decoded(self, source: str, index: int, view: View) -> Sample:
        rate_hz = self.recipe.tokenizers.audio.codec.sample_rate_hz
        return decode_record(self.sources[source].read(index), self.recipe.data.limits, rate_hz, view)


def parts_folder(recipe: Recipe) -> RunFolder:
    """The run folder that holds tokenizers and demo shards: this run's, or that of `run.tokenizers`."""
    if recipe.run.tokenizers is None:
        return RunFolder(Path(recipe.run.folder))
    other = RunFolder(Path(recipe.run.tokenizers))
    if not other.tokenizers.is_dir():
        raise ValueError(f"run.tokenizers = {recipe.run.tokenizers} must be the folder of a run; it lacks {other.tokenizers}")
    return other


def make_demo(recipe: Recipe) -> None:
    """Write the demo world of the recipe, unless it is there."""
    demo = parts_folder(recipe).data / "demo"
    if not recipe.data.uses_demo or demo.is_dir():
        return
    if recipe.run.tokenizers is not None:
        raise ValueError(f"run.tokenizers = {recipe.run.tokenizers} holds no demo world ({demo}); give data.sources paths of their own")
    half = demo.with_name(".demo-half")
    shutil.rmtree(half, ignore_errors=True)
    write_demo(half, recipe.data.demo)
    half.rename(demo)


def placed(recipe: Recipe, source: SourceConfig) -> SourceConfig:
    """The source with its path as files have it: what begins with `demo:` lies in the demo world of the run."""
    if not source.path.startswith(DEMO):
        return source
    part = source.path.removeprefix(DEMO)
    return replace(source, path=str(parts_folder(recipe).data / "demo" / (part if "*" in part else f"{part}-*.tar")))


def open_sources(recipe: Recipe, sources: dict[str, SourceConfig], quarantine: Quarantine) -> Corpus:
    """Open sources by name, as they are; a missing path is a ValueError that names it."""
    limits = recipe.data.limits
    return Corpus(recipe, {name: open_source(name, placed(recipe, source), quarantine, limits) for name, source in sources.items()})


def open_training_sources(recipe: Recipe, quarantine: Quarantine) -> Corpus:
    """Open `data.sources`, augmented as the recipe says."""
    corpus, sources = open_sources(recipe, recipe.data.sources, quarantine), recipe.data.sources
    return replace(corpus, augment={name: recipe.data.augment for name in sources if sources[name].augment and recipe.data.augment.on})


def media_of(corpus: Corpus, kinds: set[Modality], at_most: int) -> Iterable:
    """Up to `at_most` decoded media of these kinds, sources in turn; damaged samples are left out (training reports them)."""
    found = 0
    for name, source in corpus.sources.items():
        for index in range(len(source)):
            if found >= at_most:
                return
            try:
                segments = corpus.sample(name, index).segments
            except ValueError as damage:
                log.debug("%s/%d is left out of tokenizer training: %s", name, index, damage)
                continue
            for segment in segments:
                if segment.modality in kinds and found < at_most:
                    found += 1
                    yield segment.media


def load_tokenizers(recipe: Recipe) -> Tokenizers:
    """The tokenizers of a prepared run."""
    folder = parts_folder(recipe).tokenizers
    loaded: dict[str, Any] = {}
    for kind, ours in OURS.items():
        own = recipe.tokenizers.parts.get(kind)
        part: Any = load_part(own.part) if own else ours
        loaded[kind] = part.load(own.folder if own else folder / kind)
    asked, found = recipe.tokenizers.audio.codec.sample_rate_hz, loaded["audio"].sample_rate_hz
    if asked != found:
        raise ValueError(f"tokenizers.audio.codec.sample_rate_hz = {asked} must be that of the audio tokenizer; use {found}")
    return Tokenizers(**loaded)


def missing_tokenizers(recipe: Recipe) -> list[str]:
    """Which of text, vision, audio must still be trained."""
    folder = parts_folder(recipe).tokenizers
    unknown = set(recipe.tokenizers.parts) - set(OURS)
    if unknown:
        raise ValueError(f"tokenizers.parts.{unknown.pop()} is no kind of tokenizer; use text, vision or audio")
    missing = [kind for kind in OURS if kind not in recipe.tokenizers.parts and not (folder / kind).is_dir()]
    if missing and recipe.run.tokenizers is not None:
        raise ValueError(f"run.tokenizers = {recipe.run.tokenizers} lacks the tokenizers {', '.join(missing)}; train that run first")
    return missing
