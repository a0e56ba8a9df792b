"""Sound bytes to samples: WAV, FLAC, OGG or MP3 -> float32 n in [-1, 1], mono, at the codec's rate.

The header is read first: a sound above the caps is refused before it is decoded, and only the part that is kept is decoded.
Channels are averaged. A file that ends inside the kept part, or a WAV that is shorter than it says, is refused.
Ours: the formats and caps. Report: silent.
"""

from __future__ import annotations

import math
from io import BytesIO

import numpy as np
import soundfile
import soxr
import torch
from torch import Tensor

from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, reason_of
from ernie5.data_pipelines.sniff_media import describe, is_cut, sniff

FORMATS = ("WAV", "FLAC", "OGG", "MP3")
_MARGIN_S = 0.1             # decoded beyond the cut, so that the resampling filter sees what follows it
_LOUDEST = 4.0              # float files above were not scaled to [-1, 1]
_RATES_HZ = (2_000, 400_000)


def decode_audio(data: bytes, limits: MediaLimits, sample_rate_hz: int = 16000, speed: float = 1.0, fastest: float = 1.0) -> Tensor:
    """Encoded bytes -> float32 `n`, at most `limits.audio_seconds` at `sample_rate_hz`. Raises BadMedia.

    Played `speed` times as fast, tempo and pitch together. As much is read as `fastest` needs, so what is damaged is so at any speed.
    """
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the sound has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    if sniff(data) not in FORMATS:
        raise BadMedia(f"not a WAV, FLAC, OGG or MP3 sound but {describe(data)}")
    if is_cut(data):
        raise BadMedia("the sound is cut short: its header promises more bytes than there are")
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            samples, rate_hz = _read(file, limits, fastest)  # n c
    except BadMedia:
        raise
    except Exception as error:  # libsndfile's errors, and whatever odd headers make of numpy
        raise BadMedia(f"not a readable sound although it looks like {describe(data)}: {reason_of(error)}") from error
    if not (-_LOUDEST <= samples.min() and samples.max() <= _LOUDEST):  # false for nan, too
        raise BadMedia("the sound has samples far outside [-1, 1] or not numbers at all")
    mono = average(samples)
    if rate_hz * speed != sample_rate_hz:
        mono = soxr.resample(mono, rate_hz * speed, sample_rate_hz)
    mono = mono[:max(1, round(limits.audio_seconds * sample_rate_hz))]
    if not len(mono):
        raise BadMedia("the sound is too short to give one sample")
    return torch.from_numpy(mono.astype(np.float32, copy=False).clip(-1, 1))


def _read(file: soundfile.SoundFile, limits: MediaLimits, fastest: float) -> tuple[np.ndarray, int]:
    if not _RATES_HZ[0] <= file.samplerate <= _RATES_HZ[1]:
        raise BadMedia(f"a sample rate of {file.samplerate} Hz is outside {_RATES_HZ[0]} to {_RATES_HZ[1]} Hz")
    if file.channels > limits.max_channels:
        raise BadMedia(f"the sound has {file.channels} channels, more than max_channels = {limits.max_channels}")
    if file.frames > limits.max_seconds * file.samplerate:
        raise BadMedia(f"the sound lasts {file.frames / file.samplerate:.6g} s by its header, more than max_seconds = {limits.max_seconds}")
    wanted = min(file.frames, math.ceil((limits.audio_seconds * fastest + _MARGIN_S) * file.samplerate))
    if wanted < 1:
        raise BadMedia("the sound holds no samples")
    samples = file.read(wanted, dtype="float32", always_2d=True)
    if len(samples) < wanted:
        raise BadMedia(f"the sound is cut short: {len(samples)} of {wanted} samples could be decoded")
    return samples, file.samplerate


def average(samples: np.ndarray) -> np.ndarray:
    """`n c` -> `n`. numpy's mean over so short an axis takes a hundred times as long as the sum of two channels."""
    if samples.shape[1] > 2:
        return samples.mean(axis=1)
    if samples.shape[1] == 1:
        return samples[:, 0]
    total = samples[:, 0] + samples[:, 1]
    total /= 2
    return total
