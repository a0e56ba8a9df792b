"""Who speaks: one vector for a recording, from a side file or computed from another recording of the sample, for the speaker slot.

    1.wav -> 1.speaker.npy     wav -> speaker.npy, which also stands for every sound that has none of its own
    data.speaker: {dim: 256}                                        vectors of 256 numbers are read; 0 = off, nothing changes
    data.speaker: {dim: 256, encoder: "voices:Net", folder: net}    sounds without one get that of the recording before them, or after

Sounds that have none at all are generated without. The file is an .npy of floats, `n` or `1 n`; its header is checked before anything is
believed, and nothing in it is ever run. Only the direction of a vector counts: the model normalises it.
Report: §2.3 (a speaker embedding in the conditioning context). Ours: where it comes from.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from io import BytesIO
from math import prod
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.media_limits import BadMedia, reason_of
from ernie5.run.parts import load_part
from ernie5.sequence import Modality, Sample, Segment

MAX_BYTES = 2**16
MAX_DIM = 4096
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


class SpeakerEncoder(Protocol):
    """Your own voice model; `dim` numbers a recording."""

    dim: int

    @classmethod
    def load(cls, folder: str) -> "SpeakerEncoder":
        """From the files of `data.speaker.folder`."""
        ...

    def embed(self, wave: Tensor, sample_rate_hz: int) -> Tensor:
        """float `n` in [-1, 1] -> float `dim`. The same for the same recording."""
        ...


@dataclass(frozen=True)
class SpeakerConfig:
    """`dim`: numbers of a speaker vector, 0 = no speaker slot. `encoder`: `module:Class` that computes vectors, made by
    `Class.load(folder)`.
    """

    dim: int = 0
    encoder: str = ""
    folder: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.dim <= MAX_DIM:
            raise ValueError(f"data.speaker.dim = {self.dim} must be 0 (no speaker slot) to {MAX_DIM}; use the size of yours, e.g. 256")
        if self.encoder and not self.dim:
            raise ValueError(f"data.speaker.encoder = {self.encoder} needs data.speaker.dim, the numbers that it gives; for example 256")


def load_encoder(config: SpeakerConfig) -> SpeakerEncoder | None:
    """The encoder of a recipe, None where it names none. ValueError when it gives vectors of another size."""
    if not config.encoder:
        return None
    encoder: SpeakerEncoder = load_part(config.encoder, SpeakerEncoder).load(config.folder)  # type: ignore[attr-defined]
    if encoder.dim != config.dim:
        raise ValueError(f"data.speaker.encoder = {config.encoder} gives {encoder.dim} numbers; make data.speaker.dim = {config.dim} so")
    return encoder


def read_speaker(data: bytes) -> Tensor:
    """The bytes of an .npy file -> float32 `n`. Raises BadMedia."""
    if len(data) > MAX_BYTES:
        raise BadMedia(f"the speaker file has {len(data)} bytes, more than {MAX_BYTES}")
    file = BytesIO(data)
    try:
        shape, _, kind = _HEADERS[np.lib.format.read_magic(file)](file, max_header_size=1024)
    except Exception as error:
        raise BadMedia(f"the speaker file is no .npy file of version 1 or 2: {reason_of(error)}") from error
    if kind.kind != "f" or not 1 <= len(shape) <= 2 or shape[:-1] not in ((), (1,)) or not 1 <= shape[-1] <= MAX_DIM:
        raise BadMedia(f"the speaker file holds {kind} {shape}, which must be floats of shape (n,) or (1, n), n at most {MAX_DIM}")
    body = data[file.tell() :]
    if len(body) != prod(shape) * kind.itemsize:
        raise BadMedia(f"the speaker file has {len(body)} bytes of numbers, its header says {prod(shape) * kind.itemsize}")
    with np.errstate(over="ignore"):
        return checked(torch.from_numpy(np.frombuffer(body, kind).astype(np.float32)))


def checked(vector: Tensor) -> Tensor:
    """The vector; BadMedia when it has no direction."""
    if vector.ndim != 1 or not vector.isfinite().all() or not (norm := float(vector.double().norm())) > 0 or norm > 1e18:
        raise BadMedia("the speaker vector must be finite numbers, not all of them zero")
    return vector


def placed_speakers(sample: Sample, config: SpeakerConfig, encoder: SpeakerEncoder | None, sample_rate_hz: int) -> Sample:
    """The sample with the vectors that the run wants. BadMedia when one has another size than `dim`."""
    sounds = [s for s in sample.segments if s.modality is Modality.AUDIO]
    if not config.dim or not sounds:
        return sample
    for sound in sounds:
        if sound.speaker is not None and len(sound.speaker) != config.dim:
            raise BadMedia(f"its speaker vector has {len(sound.speaker)} numbers, not data.speaker.dim = {config.dim}")
    if encoder is None or len(sounds) == 1:
        return sample
    others = {id(sound): sounds[number - 1 if number else 1] for number, sound in enumerate(sounds)}

    def of(segment: Segment) -> Segment:
        if id(segment) not in others or segment.speaker is not None:
            return segment
        return replace(segment, speaker=embedded(encoder, others[id(segment)].media, sample_rate_hz))

    return replace(sample, segments=tuple(of(segment) for segment in sample.segments))


@torch.no_grad()
def embedded(encoder: SpeakerEncoder, wave: str | Tensor, sample_rate_hz: int) -> Tensor:
    """float32 `dim` of a recording. BadMedia when the encoder finds no direction; ValueError when it gives another shape."""
    assert isinstance(wave, Tensor)
    vector = encoder.embed(wave, sample_rate_hz).detach().float().cpu()
    if vector.shape != (encoder.dim,):
        raise ValueError(f"data.speaker.encoder gave {tuple(vector.shape)} numbers for a recording, which must be ({encoder.dim},)")
    return checked(vector)
