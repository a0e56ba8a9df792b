"""Teachers of level 1: what the first code of every frame should be about.

`LogMelTeacher` needs no weights: spectral shape and loudness of the frame. `WhisperTeacher` reads local weights through `transformers`:
what is said. Both give one vector per codec frame; training asks level 1 alone to predict it (losses.distillation_loss).
Report: §2.3.1 (Whisper encoder, average-pooled to 12.5 Hz). Ours: log-mel as the default that trains offline (decision 14).
Letters: n sounds, s samples, f codec frames.
"""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import soxr
import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from ernie5.run.parts import load_part
from ernie5.tokenizers.audio.mel import log_mel, mel_filters
from ernie5.tokenizers.audio.spectrogram import Spectrogram, magnitudes_of

RATE_HZ = 16_000  # of Whisper


class AudioTeacher(Protocol):
    """Anything that describes every codec frame of a sound."""

    dim: int

    def features(self, sounds: Tensor) -> Tensor:
        """float `n s` -> float `n f dim`, f = s / hop of the codec, without gradient."""


class LogMelTeacher:
    """Log-mel energies of four short frames per codec frame, averaged over the frame."""

    STEPS = 4

    def __init__(self, sample_rate_hz: int = 16_000, hop_samples: int = 1280, dim: int = 64, floor: float = 1.0) -> None:
        if hop_samples % self.STEPS:
            raise ValueError(f"hop_samples = {hop_samples} must be a multiple of {self.STEPS} for the log-mel teacher; "
                             "use 1280 or teacher: none")
        self.dim, self.floor = dim, floor
        self.spectrogram = Spectrogram(fft_size=hop_samples, hop=hop_samples // self.STEPS)
        self.filters = mel_filters(dim, self.spectrogram.num_bins, sample_rate_hz)

    @torch.no_grad()
    def features(self, sounds: Tensor) -> Tensor:
        """float `n s` -> log-mel `n f dim`"""
        mel = log_mel(magnitudes_of(self.spectrogram.spectra(sounds)), self.filters, self.floor)
        return reduce(mel, "n (f k) m -> n f m", "mean", k=self.STEPS)


class WhisperTeacher:
    """The last hidden state (50 Hz) of a Whisper encoder from a local folder, averaged over the four steps of a codec frame."""

    STEPS, WINDOW_S = 4, 30

    def __init__(self, path: str | Path, sample_rate_hz: int = 16_000, hop_samples: int = 1280) -> None:
        if 2 * sample_rate_hz != 25 * hop_samples:
            raise ValueError(f"sample_rate_hz = {sample_rate_hz} and hop_samples = {hop_samples} must make frames of 80 ms for the Whisper "
                             "teacher; use 16000 and 1280, 24000 and 1920, or teacher: logmel")
        self.sample_rate_hz, self.hop_samples = sample_rate_hz, hop_samples
        if not Path(path, "config.json").is_file():
            raise ValueError(f"teacher_path = {str(path)!r} must be a folder with a Whisper model (config.json, preprocessor_config.json, "
                             "model.safetensors); download one there, or use teacher: logmel, which needs no weights")
        try:
            from transformers import WhisperFeatureExtractor, WhisperModel
        except ImportError as error:
            raise ValueError("teacher = 'whisper' needs the package transformers; "
                             "pip install transformers, or use teacher: logmel") from error
        self.extractor = WhisperFeatureExtractor.from_pretrained(path, local_files_only=True)
        self.encoder = WhisperModel.from_pretrained(path, local_files_only=True, use_safetensors=True).encoder.eval().requires_grad_(False)
        self.dim = int(self.encoder.config.d_model)

    @torch.no_grad()
    def features(self, sounds: Tensor) -> Tensor:
        """float `n s` at the codec's rate -> `n f dim`. Whisper hears 30 s at a time, at 16 kHz: longer sounds are cut there, shorter ones
        padded.
        """
        num_frames, window = sounds.shape[1] // self.hop_samples, self.WINDOW_S * RATE_HZ
        heard = sounds if self.sample_rate_hz == RATE_HZ else _resampled(sounds, self.sample_rate_hz)
        windows = F.pad(heard, (0, -heard.shape[1] % window)).unfold(1, window, window)                          # n w 480000
        flat = rearrange(windows, "n w s -> (n w) s").cpu().numpy()
        inputs = self.extractor(list(flat), sampling_rate=16_000, return_tensors="pt").input_features
        hidden = self.encoder(inputs.to(self.encoder.device)).last_hidden_state                                 # (n w) 1500 dim
        frames = reduce(hidden, "nw (f k) c -> nw f c", "mean", k=self.STEPS)
        return rearrange(frames, "(n w) f c -> n (w f) c", n=len(sounds))[:, :num_frames].to(sounds)


def teacher_named(name: str, path: str, sample_rate_hz: int, hop_samples: int) -> AudioTeacher | None:
    """`none`, `logmel`, `whisper` (folder `path`), or your own `module:Class`, made by Class(path, sample_rate_hz, hop_samples)."""
    match name:
        case "none":
            return None
        case "logmel":
            return LogMelTeacher(sample_rate_hz, hop_samples)
        case "whisper":
            return WhisperTeacher(path, sample_rate_hz, hop_samples)
        case _:
            if ":" not in name:
                raise ValueError(f"teacher = {name!r} must be one of logmel, whisper, none, or module:Class")
            own: AudioTeacher = load_part(name)(path, sample_rate_hz, hop_samples)
            return own


def _resampled(sounds: Tensor, sample_rate_hz: int) -> Tensor:
    """float `n s` -> `n s'` at Whisper's rate."""
    return torch.from_numpy(soxr.resample(sounds.cpu().numpy().T, sample_rate_hz, RATE_HZ).T.copy()).to(sounds)
