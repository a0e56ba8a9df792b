"""`ernie5 tokenizer eval`: measure, write `tokenizer_eval.json` and `tokenizer_eval.html`, and give the figures back.

    {"vision": {"image": {…}, "video": {…}, "fingerprint": …}, "audio": {…}, "text": {…}, "rejected": [[name, reason], …], "settings": {…}}
Ours.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ernie5.data_pipelines.media_limits import MediaLimits, VisionSize
from ernie5.data_pipelines.sources import open_source
from ernie5.measure.audio import AudioRun, measure_audio
from ernie5.measure.clip_baselines import clip_baselines
from ernie5.measure.features import PICTURE_DEFAULT, SOUND_DEFAULT
from ernie5.measure.frechet import frechet_distance, rows_of
from ernie5.measure.media import MediaSet, Shape
from ernie5.measure.picture_baselines import MAX_FITTED, picture_baselines
from ernie5.measure.sound_baselines import num_passes, sound_baselines
from ernie5.measure.subject import Subject
from ernie5.measure.text import TextRun, measure_text
from ernie5.measure.vision import VisionRun, measure_vision
from ernie5.run.files import atomic_write
from ernie5.run.parts import load_function
from ernie5.run.progress import progress
from ernie5.sequence import Modality

RESULT, PAGE = "tokenizer_eval.json", "tokenizer_eval.html"


@dataclass(frozen=True)
class EvalSettings:
    """What is measured and how. `size`: of pictures and clips; None = that of the run, or native where there is no run."""

    at_most: int = 64
    native: bool = False                  # whatever the run says
    size: VisionSize | None = None
    longest: int = 512
    seconds: float = 10.0                 # of sounds that the run does not hold
    picture_features: str = PICTURE_DEFAULT
    sound_features: str = SOUND_DEFAULT
    baselines: bool = True
    fit: str | None = None                # pictures for PCA
    device: str = "cpu"


@dataclass
class Measured:
    """Figures by kind, and what the page shows of it."""

    result: dict
    vision: dict[str, VisionRun] = field(default_factory=dict)                     # image, video
    sounds: AudioRun | None = None
    texts: TextRun | None = None
    pictures_of: dict[str, dict[str, Tensor]] = field(default_factory=dict)         # by name of the medium, then of the baseline
    sounds_of: dict[str, dict[str, Tensor]] = field(default_factory=dict)


def evaluate_tokenizers(subject: Subject, media: str | None, settings: EvalSettings) -> Measured:
    """Measure all tokenizers of `subject` on `media`, or on the held-out sources of its run. ValueError when nothing could be measured."""
    limits = subject.recipe.data.limits if subject.recipe else MediaLimits()
    if media is not None:
        limits = replace(limits, audio_seconds=settings.seconds, max_text_bytes=2**24)
    found = MediaSet(limits)
    if media is not None:
        found.add_path(media)
    elif heldout := subject.heldout():
        for name, source in heldout.items():
            found.add_source(open_source(name, source, limits=limits))
    else:
        raise ValueError(f"{subject.path} belongs to no run with held-out data; name a folder of media or shards after it")
    measured = Measured({"tokenizers": str(subject.path), "media": media or "held-out sources of the run"})
    for kind, tokenizer in subject.tokenizers.items():
        if isinstance(tokenizer, nn.Module) and settings.device != "cpu":
            tokenizer.to(settings.device)
        {"vision": _vision, "audio": _audio, "text": _text}[kind](measured, tokenizer, subject, found, limits, settings)
    measured.result["rejected"] = [list(pair) for pair in found.rejected.reasons]
    measured.result["settings"] = {**asdict(settings), "torch": torch.__version__, "threads": torch.get_num_threads()}
    if not any(kind in measured.result for kind in subject.tokenizers):
        reasons = "".join(f"\n  {name}: {reason}" for name, reason in found.rejected.reasons[:5])
        kinds = ", ".join(subject.tokenizers)
        raise ValueError(f"{media or subject.path} holds no medium that a tokenizer of {kinds} could encode{reasons}")
    return measured


def write_result(measured: Measured, out: Path) -> None:
    """The figures as JSON."""
    out.mkdir(parents=True, exist_ok=True)
    atomic_write(out / RESULT, (json.dumps(measured.result, indent=1, allow_nan=False) + "\n").encode())


def _vision(
    measured: Measured, tokenizer: Any, subject: Subject, found: MediaSet, limits: MediaLimits, settings: EvalSettings
) -> None:
    features = load_function(settings.picture_features)
    section: dict = {}
    for name, modality in (("image", Modality.IMAGE), ("video", Modality.VIDEO)):
        shape = _shape(tokenizer, subject, limits, settings, modality)
        with progress(f"{name}s", total=None) as bar:
            run = measure_vision(tokenizer, found.media({modality}, shape, settings.at_most), found.rejected, bar, settings.device)
        if not run.done:
            continue
        section[name] = run.result()
        made = {"tokenizer": [r.decoded for r in run.done]}
        measured.vision[name] = run
        if settings.baselines:
            with progress(f"baselines of {name}s", total=len(run.done)) as bar:
                if name == "image":
                    section[name]["baselines"], of = picture_baselines(
                        run.done, tokenizer.stride, _fit_on(subject, limits, settings, shape), bar)
                else:
                    section[name]["baselines"], of = clip_baselines(run.done, bar)
            measured.pictures_of |= of
            for baseline in ("jpeg_small", "webp_small", "pca", "h264_small"):
                pictures = [of[r.name][baseline] for r in run.done if baseline in of.get(r.name, {})]
                made |= {baseline: pictures} if len(pictures) == len(run.done) else {}
        originals = [r.original for r in run.done]
        section[name]["frechet"] = _frechet(lambda x: rows_of(features(x), settings.picture_features), originals, made,
                                            settings.picture_features)
    if section:
        measured.result["vision"] = {"fingerprint": getattr(tokenizer, "fingerprint", None), "stride": tokenizer.stride,
                                     "temporal_stride": tokenizer.temporal_stride, "bits": tokenizer.quantizer.bits, **section}


def _audio(measured: Measured, tokenizer: Any, subject: Subject, found: MediaSet, limits: MediaLimits, settings: EvalSettings) -> None:
    features, rate_hz = load_function(settings.sound_features), tokenizer.sample_rate_hz
    with progress("sounds", total=None) as bar:
        media = found.media({Modality.AUDIO}, Shape(sample_rate_hz=rate_hz), settings.at_most)
        run = measure_audio(tokenizer, media, found.rejected, bar, settings.device)
    if not run.done:
        return
    measured.sounds = run
    section = run.result()
    made = {"tokenizer": [r.decoded for r in run.done]}
    if settings.baselines:
        with progress("baselines of sounds", total=num_passes() * len(run.done)) as bar:
            section["baselines"], measured.sounds_of = sound_baselines(run.done, rate_hz, bar)
        for baseline in [name for name in section["baselines"] if name != "curves"]:
            made[baseline] = [measured.sounds_of[r.name][baseline] for r in run.done]
    section["frechet"] = _frechet(lambda x: rows_of(features(x, rate_hz), settings.sound_features), [r.original for r in run.done], made,
                                  settings.sound_features)
    measured.result["audio"] = {
        "fingerprint": getattr(tokenizer, "fingerprint", None), "sample_rate_hz": rate_hz, "frame_rate_hz": tokenizer.frame_rate_hz,
        "num_codebooks": tokenizer.num_codebooks, "codebook_size": tokenizer.codebook_size, **section}


def _text(measured: Measured, tokenizer: Any, subject: Subject, found: MediaSet, limits: MediaLimits, settings: EvalSettings) -> None:
    with progress("texts", total=None) as bar:
        run = measure_text(tokenizer, found.media({Modality.TEXT}, Shape(), 10 * settings.at_most), found.rejected, bar)
    if run.texts:
        measured.texts = run
        measured.result["text"] = {
            "fingerprint": getattr(tokenizer, "fingerprint", None), "vocab_size": tokenizer.vocab_size, **run.result()}


def _frechet(features: Callable[[Tensor], Tensor], originals: Iterable[Tensor], made: dict[str, list[Tensor]], name: str) -> dict | None:
    """The distance of each set of reconstructions from the originals; None where there are fewer than two rows."""
    real = torch.cat([features(x) for x in originals])
    if len(real) < 2:
        return None
    distances = {who: frechet_distance(real, torch.cat([features(x) for x in media])) for who, media in made.items()}
    return {"features": name, "rows": len(real), "dim": real.shape[1], **distances}


def _shape(tokenizer: Any, subject: Subject, limits: MediaLimits, settings: EvalSettings, modality: Modality) -> Shape:
    """The size that was asked for; else the run's; else what each medium has."""
    size = settings.size
    if size is None and not settings.native and subject.recipe is not None:
        size = limits.image_size if modality is Modality.IMAGE else limits.video_size
    return Shape(size, settings.longest, tokenizer.stride, tokenizer.temporal_stride)


def _fit_on(subject: Subject, limits: MediaLimits, settings: EvalSettings, shape: Shape) -> list[Tensor]:
    """Pictures to fit PCA on: a folder that was named, else the run's training sources, else none."""
    training = MediaSet(limits)
    if settings.fit is not None:
        training.add_path(settings.fit)
    else:
        for name, source in subject.training().items():
            training.add_source(open_source(name, source, limits=limits))
    return [medium.media for medium in training.media({Modality.IMAGE}, shape, MAX_FITTED)]
