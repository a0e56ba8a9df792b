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

from ernie5.data_pipelines.augment import PLAIN, AugmentConfig, View, one_caption
from ernie5.data_pipelines.decode_media import decode_record, decode_text
from ernie5.data_pipelines.encode import CodedSample, Tokenizers
from ernie5.data_pipelines.media_limits import BadMedia
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.quarantine import BadSample, Quarantine
from ernie5.data_pipelines.sample_maker import Views
from ernie5.data_pipelines.sources import Source, SourceConfig, open_source
from ernie5.data_pipelines.speaker import SpeakerEncoder, load_encoder, placed_speakers
from ernie5.data_pipelines.synthetic.demo import write_demo
from ernie5.data_pipelines.tokenized.check import check_codes, check_use
from ernie5.data_pipelines.tokenized.made_by import Decoding
from ernie5.data_pipelines.tokenized.source import CodedRecord, TokenizedSource
from ernie5.recipe import DEMO, Recipe
from ernie5.run.folder import RunFolder
from ernie5.run.parts import load_part
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality, Sample
from ernie5.tokenizers.audio.own import OwnAudioCodec
from ernie5.tokenizers.remote.tokenizers import RemoteAudio, open_remote
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer

log = logging.getLogger(__name__)
OURS = {"text": Utf16Tokenizer, "vision": VisionGenerationTokenizer, "audio": OwnAudioCodec}


@dataclass(frozen=True)
class Corpus:
    """Opened sources by name, and how their records become samples. `augment`: for those that are augmented; held-out data never is.
    `native`: those whose images keep their own sizes. `voices`: finds out who speaks where no file says so.
    `tokenizers`: where sources are tokenized, those that their codes were made with; samples of such sources have their codes.
    """

    recipe: Recipe
    sources: dict[str, Source]
    augment: dict[str, AugmentConfig] = field(default_factory=dict)
    native: frozenset[str] = frozenset()
    voices: SpeakerEncoder | None = None
    tokenizers: Tokenizers | None = None

    def sample(self, source: str, index: int) -> Sample:
        """As `read`, of a corpus without tokenized sources: media."""
        found = self.read(source, index)
        assert isinstance(found, Sample)
        return found

    def read(self, source: str, index: int) -> Sample | CodedSample:
        """One decoded sample without any draw, its images in their aspect buckets; ValueError when it is damaged."""
        config = self.augment.get(source)
        return self._decoded(source, index, View(sizes=config.aspect_buckets) if config else PLAIN)

    def texts(self, source: str, index: int) -> list[str]:
        """The texts of one sample; its media are not decoded. ValueError when a text is damaged."""
        members = self.sources[source].read(index).members
        return [decode_text(m.data, self.recipe.data.limits) for m in members if m.modality is Modality.TEXT]

    def views(self) -> Views | None:
        """What training reads instead where a sample is another one in every draw."""
        drawn = frozenset(name for name, config in self.augment.items() if config.draws)
        longer = frozenset(name for name in drawn if self.augment[name].changes_lengths)
        return Views(self._view, drawn, longer) if drawn else None

    def _view(self, draw: Draw) -> Sample | CodedSample:
        view = self.augment[draw.source].view(stream(self.recipe.run.seed, "augment", draw.number))
        return self._decoded(draw.source, draw.place, view)

    def _decoded(self, source: str, index: int, view: View) -> Sample | CodedSample:
        record, limits = self.sources[source].read(index), self.recipe.data.limits
        rate_hz = self.recipe.tokenizers.audio.codec.sample_rate_hz
        if isinstance(record, CodedRecord):
            assert self.tokenizers is not None
            coded = record.decoded(limits, self.tokenizers.vision.quantizer)
            return coded if view.caption is None else _with_one_caption(coded, view.caption)
        view = replace(view, native=self.recipe.understanding.unit) if source in self.native else view
        sample = decode_record(record, limits, rate_hz, view)
        try:
            return placed_speakers(sample, self.recipe.data.speaker, self.voices, rate_hz)
        except BadMedia as error:
            raise BadSample(sample.id, str(error)) from error


def _with_one_caption(coded: CodedSample, pick: float) -> CodedSample:
    """As augmentation chooses among texts that stand side by side, their codes too."""
    kept = one_caption(coded.sample.segments, pick)
    codes = [code for segment, code in zip(coded.sample.segments, coded.codes, strict=True) if any(segment is k for k in kept)]
    return CodedSample(replace(coded.sample, segments=kept), tuple(codes))


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
    """Open sources by name, as they are; a missing path is a ValueError that names it, and so are tokenized shards: here media are needed.
    """
    corpus = _open(recipe, sources, quarantine)
    for name, source in corpus.sources.items():
        if isinstance(source, TokenizedSource):
            raise ValueError(f"{name} ({sources[name].path}) holds codes of ernie5 data tokenize, which only training reads. Held-out data "
                             "must be untokenized shards, and tokenizers are trained on such: set run.tokenizers to the run whose "
                             "tokenizers made the codes")
    return corpus


def open_training_sources(recipe: Recipe, quarantine: Quarantine, tokenizers: Tokenizers | None = None) -> Corpus:
    """Open `data.sources`, augmented as the recipe says. Tokenized shards are refused with a ValueError where `tokenizers` would make other
    codes, where the recipe needs more than they keep, and where no tokenizers are given.
    """
    sources = recipe.data.sources
    augment = {name: recipe.data.augment for name in sources if sources[name].augment and recipe.data.augment.on}
    if tokenizers is None:
        return replace(open_sources(recipe, sources, quarantine), augment=augment)
    corpus = replace(_open(recipe, sources, quarantine), augment=augment, tokenizers=tokenizers)
    for name, source in corpus.sources.items():
        if isinstance(source, TokenizedSource):
            check_codes(source, tokenizers, decoding_of(recipe, sources[name]))
            check_use(source, recipe.data.history, recipe.data.roles, augment.get(name))
    return corpus


def decoding_of(recipe: Recipe, source: SourceConfig) -> Decoding:
    """How media of a source are decoded where nothing is drawn."""
    buckets = recipe.data.augment.aspect_buckets if source.augment else ()
    return Decoding(recipe.data.limits, recipe.tokenizers.audio.codec.sample_rate_hz, buckets, recipe.data.speaker)


def _open(recipe: Recipe, sources: dict[str, SourceConfig], quarantine: Quarantine) -> Corpus:
    limits, speakers = recipe.data.limits, recipe.data.speaker.dim > 0
    opened = {name: open_source(name, placed(recipe, source), quarantine, limits, speakers) for name, source in sources.items()}
    native = frozenset(name for name, source in sources.items() if source.native)
    return Corpus(recipe, opened, native=native, voices=load_encoder(recipe.data.speaker))


def media_of(corpus: Corpus, kinds: set[Modality], at_most: int) -> Iterable:
    """Up to `at_most` decoded media of these kinds, sources in turn; damaged samples are left out (training reports them). Images are all
    of the sizes that are generated, as tokenizers are trained on them.
    """
    found, corpus = 0, replace(corpus, native=frozenset(), voices=None)
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


def load_tokenizers(recipe: Recipe, folder: Path | None = None) -> Tokenizers:
    """The tokenizers of a prepared run, or those that `folder` holds."""
    folder = folder or parts_folder(recipe).tokenizers
    loaded: dict[str, Any] = {}
    for kind, ours in OURS.items():
        if kind in recipe.tokenizers.services:
            loaded[kind] = served_tokenizer(recipe, kind)
            continue
        own = recipe.tokenizers.parts.get(kind)
        part: Any = load_part(own.part) if own else ours
        loaded[kind] = part.load(own.folder if own else folder / kind)
    asked, found = recipe.tokenizers.audio.codec.sample_rate_hz, loaded["audio"].sample_rate_hz
    if asked != found:
        raise ValueError(f"tokenizers.audio.codec.sample_rate_hz = {asked} must be that of the audio tokenizer; use {found}")
    return Tokenizers(**loaded)


def served_tokenizer(recipe: Recipe, kind: str) -> Any:
    """The tokenizer of a kind that `tokenizers.services` names. ValueError when it hears sounds at another rate than the recipe says."""
    tokenizer = open_remote(kind, recipe.tokenizers.addresses(kind), recipe.tokenizers.service_wait_s)
    rate_hz = recipe.tokenizers.audio.codec.sample_rate_hz
    if isinstance(tokenizer, RemoteAudio) and tokenizer.sample_rate_hz != rate_hz:
        raise ValueError(f"tokenizers.audio.codec.sample_rate_hz = {rate_hz} must be {tokenizer.sample_rate_hz}, which the tokenizer of "
                         "tokenizers.services.audio takes; set it, and name the service in tokenizers.services")
    return tokenizer


def missing_tokenizers(recipe: Recipe) -> list[str]:
    """Which of text, vision, audio must still be trained."""
    folder = parts_folder(recipe).tokenizers
    unknown = set(recipe.tokenizers.parts) - set(OURS)
    if unknown:
        raise ValueError(f"tokenizers.parts.{unknown.pop()} is no kind of tokenizer; use text, vision or audio")
    elsewhere = {*recipe.tokenizers.parts, *recipe.tokenizers.services}
    missing = [kind for kind in OURS if kind not in elsewhere and not (folder / kind).is_dir()]
    if missing and recipe.run.tokenizers is not None:
        raise ValueError(f"run.tokenizers = {recipe.run.tokenizers} lacks the tokenizers {', '.join(missing)}; train that run first")
    return missing
