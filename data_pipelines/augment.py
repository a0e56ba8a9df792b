"""Other views of the same sample, drawn anew for every pass: another caption, another crop, mirrored, faster or slower.

    crop      one window for all pictures of a sample: the largest of the wanted aspect, times zoom ~ U(crop, 1), anywhere in the picture
    flip      all pictures of a sample mirrored left-right; off by default, because captions say left and right
    speed     sounds played 1/speed to speed times as fast (log-uniform): tempo and pitch change together, as on a tape
    captions  one of the sample's own text and the attributes in `captions_from`; one of several texts beside one medium

A pure function of (seed, number in the global stream), applied before encoding: nothing that was encoded earlier can be used for an
augmented sample. Pictures keep their one size: a vision tokenizer is trained on pictures of one size, and generation makes one size.
Ours: all of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import soxr
import torch
from torch import Tensor

from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.picture_crop import CENTRE, Crop
from ernie5.sequence import Modality, Sample, Segment


@dataclass(frozen=True)
class AugmentConfig:
    """`crop`: the least zoom, 1 = always the whole centre. `flip`: how often. `speed`: the fastest, 1 = off. `captions_from`: attributes
    that hold further captions of a pair. `one_caption`: where several texts stand beside one medium, keep one of them.
    """

    crop: float = 1.0
    flip: float = 0.0
    speed: float = 1.0
    captions_from: tuple[str, ...] = ()
    one_caption: bool = False

    def __post_init__(self) -> None:
        if not 0.1 <= self.crop <= 1:
            raise ValueError(f"data.augment.crop = {self.crop} is the least part of the sides that is kept; use 0.1 to 1, for example 0.8")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"data.augment.flip = {self.flip} is a probability; use 0 to 1, for example 0.5")
        if not 1 <= self.speed <= 2:
            raise ValueError(f"data.augment.speed = {self.speed} is how much faster a sound may become; use 1 to 2, for example 1.1")

    @property
    def on(self) -> bool:
        """Whether anything is ever changed."""
        return self != AugmentConfig()


def draw_crop(random: np.random.Generator, config: AugmentConfig) -> Crop:
    """The window of all pictures of a sample, for `decode_record`."""
    if config.crop == 1:
        return CENTRE
    zoom, x, y = random.random(3)
    return Crop(config.crop + (1 - config.crop) * float(zoom), float(x), float(y))


def roomier(limits: MediaLimits, config: AugmentConfig) -> MediaLimits:
    """What to decode under, so that a sound that is played faster still fills `limits.audio_seconds`."""
    return limits if config.speed == 1 else replace(limits, audio_seconds=limits.audio_seconds * config.speed)


def augment(sample: Sample, random: np.random.Generator, config: AugmentConfig, limits: MediaLimits, sample_rate_hz: int = 16000) -> Sample:
    """Another view of a sample that was decoded under `roomier(limits)` and `draw_crop`. The sample itself where nothing is to do."""
    # every number is drawn for every sample, so that switching one thing on changes no other
    pick, mirror, tape = random.random(3)
    segments = _captions(sample, float(pick), config)
    if mirror < config.flip:
        segments = _each(segments, (Modality.IMAGE, Modality.VIDEO), lambda pixels: pixels.flip(-1))
    if config.speed > 1:
        speed = math.exp((2 * float(tape) - 1) * math.log(config.speed))
        most = max(1, round(limits.audio_seconds * sample_rate_hz))
        segments = _each(segments, (Modality.AUDIO,), lambda wave: faster(wave, speed)[:most])
    return sample if segments is sample.segments else replace(sample, segments=segments)


def faster(wave: Tensor, speed: float) -> Tensor:
    """float32 `n` -> about n / speed samples, at least one."""
    out = torch.from_numpy(soxr.resample(wave.numpy(), speed, 1.0).astype(np.float32)).clamp(-1, 1)
    return out if len(out) else wave[:1]


def _each(segments: tuple[Segment, ...], kinds: tuple[Modality, ...], change: Callable[[Tensor], Tensor]) -> tuple[Segment, ...]:
    return tuple(replace(s, media=change(s.media)) if isinstance(s.media, Tensor) and s.modality in kinds else s for s in segments)


def _captions(sample: Sample, pick: float, config: AugmentConfig) -> tuple[Segment, ...]:
    """The segments with one caption of those that there are; documents of several media keep all of their text."""
    segments = sample.segments
    texts = [i for i, s in enumerate(segments) if s.modality is Modality.TEXT]
    if len(segments) - len(texts) != 1 or not texts or texts != list(range(texts[0], texts[-1] + 1)):
        return segments
    if len(texts) > 1 and not config.one_caption:
        return segments
    choices = [str(segments[i].media) for i in texts]
    choices += [value for name in config.captions_from if isinstance(value := sample.attributes.get(name), str) and value.strip()]
    if len(choices) == 1:
        return segments
    chosen = replace(segments[texts[0]], media=choices[int(pick * len(choices))])
    return (*segments[: texts[0]], chosen, *segments[texts[-1] + 1 :])
