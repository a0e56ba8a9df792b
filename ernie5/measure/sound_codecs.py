"""Opus and MP3 through FFmpeg, as baselines at low bit rates.

    bits = 8 x the bytes of all packets; the container around them is not counted
Encoders delay the sound: containers say by how much, and decoders cut it.
Ours: which settings. Letters: n samples.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import av
import numpy as np
import soxr
import torch
from torch import Tensor


@dataclass(frozen=True)
class Kind:
    """How FFmpeg makes it: encoder, container, the rates in bits / s that may be asked for, the sample rates that it takes."""

    encoder: str
    container: str
    bit_rates: tuple[int, ...]
    sample_rates_hz: tuple[int, ...]
    options: dict[str, str]


KINDS = {
    "opus": Kind("libopus", "ogg", (500, 1000, 2000, 4000, 6000, 8000, 12000, 16000, 24000, 32000, 48000, 64000),
                 (8000, 12000, 16000, 24000, 48000), {"vbr": "on", "frame_duration": "60", "application": "audio"}),
    "mp3": Kind("libmp3lame", "mp3", (8000, 16000, 24000, 32000, 40000, 48000, 64000, 96000, 128000),
                (8000, 11025, 12000, 16000, 22050, 24000, 32000, 44100, 48000), {"compression_level": "2"}),
}


@dataclass(frozen=True)
class CodedSound:
    """A sound after a codec: float `n`, as long as it was."""

    sound: Tensor
    bits: int
    bit_rate: int  # that was asked for


def available() -> dict[str, Kind]:
    """The kinds that this FFmpeg can encode."""
    return {name: kind for name, kind in KINDS.items() if kind.encoder in av.codecs_available}


def at_bit_rate(name: str, sound: Tensor, sample_rate_hz: int, bit_rate: int) -> CodedSound:
    """float `n` through the codec and back to its own rate and length."""
    kind = KINDS[name]
    rate_hz = min((r for r in kind.sample_rates_hz if r >= sample_rate_hz), default=kind.sample_rates_hz[-1])
    wave = _resampled(sound.numpy(), sample_rate_hz, rate_hz)
    file = _encode(kind, wave, rate_hz, bit_rate)
    decoded, decoded_hz, num_bytes = _decode(file, kind.container)
    back = torch.from_numpy(_resampled(decoded, decoded_hz, sample_rate_hz).astype(np.float32, copy=False))[:len(sound)]
    return CodedSound(torch.nn.functional.pad(back, (0, len(sound) - len(back))).clamp(-1, 1), 8 * num_bytes, bit_rate)


def _encode(kind: Kind, wave: np.ndarray, rate_hz: int, bit_rate: int) -> BytesIO:
    file = BytesIO()
    with av.open(file, "w", format=kind.container) as container:
        stream = container.add_stream(kind.encoder, rate=rate_hz, options=kind.options)
        stream.bit_rate, stream.layout = bit_rate, "mono"
        frame = av.AudioFrame.from_ndarray(wave[None].astype(np.float32), format="flt", layout="mono")
        frame.sample_rate, frame.pts = rate_hz, 0
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    file.seek(0)
    return file


def _decode(file: BytesIO, container_format: str) -> tuple[np.ndarray, int, int]:
    """Mono samples, their rate, and the bytes of the packets."""
    parts, num_bytes, rate_hz = [], 0, 0
    with av.open(file, format=container_format) as container:
        stream = container.streams.audio[0]
        for packet in container.demux(stream):
            num_bytes += packet.size
            for frame in packet.decode():
                array = frame.to_ndarray()
                parts.append(array.mean(0) if array.dtype.kind == "f" else array.mean(0) / 32768)
                rate_hz = frame.sample_rate
    if not parts:
        raise ValueError("the codec gave no samples back")
    return np.concatenate(parts).astype(np.float32), rate_hz, num_bytes


def _resampled(wave: np.ndarray, from_hz: int, to_hz: int) -> np.ndarray:
    return wave if from_hz == to_hz else soxr.resample(wave, from_hz, to_hz)
