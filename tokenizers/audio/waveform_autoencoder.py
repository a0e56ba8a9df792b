"""Waveform -> latents at 12.5 Hz -> waveform: compressed magnitude spectra in, compressed magnitude spectra out.

    encoder   log(1 + |STFT|) -> width c per short frame -> blocks -> short frames of a codec frame side by side -> width h -> block -> d
    decoder   d (three codec frames seen) -> block -> short frames again -> blocks -> predicted log(1 + |STFT|) -> waveform (phase.py)
    block     x + W2 silu(W1 [norm(x)_{t-1}, norm(x)_t, norm(x)_{t+1}])
Training is then plain regression of log-magnitudes. The latent is normalised to mean 0, variance 1, so that codebooks do not chase
its scale.
All weights are matrices: a convolution over time is one matrix on neighbouring frames side by side (faster on CPUs, ready for Muon).
Ours: the report does not say how its codec is built.
Letters: n sounds, s samples, f codec frames, t short frames, b bins, c h widths, d latent width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.audio.phase import sounds_of_magnitudes
from ernie5.tokenizers.audio.spectrogram import Spectrogram


class TimeConvolution(nn.Linear):
    """Kernel 3 over time, channels last: `n t c` -> `n t out`; zeros beyond both ends."""

    def __init__(self, dim: int, out: int) -> None:
        super().__init__(3 * dim, out)

    def forward(self, x: Tensor) -> Tensor:
        padded = F.pad(x, (0, 0, 1, 1))
        return super().forward(torch.cat([padded[:, :-2], x, padded[:, 2:]], -1))


class Block(nn.Module):
    """The residual block of the docstring above: `n t c` -> `n t c`."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.mix = TimeConvolution(dim, dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.out(F.silu(self.mix(F.rms_norm(x, x.shape[-1:]))))


class WaveformAutoencoder(nn.Module):
    """`dim` per short frame (c), `frame_dim` per codec frame (h), `num_blocks` at the short-frame rate on either side."""

    def __init__(self, spectrogram: Spectrogram, steps_per_frame: int, latent_dim: int, dim: int, frame_dim: int, num_blocks: int) -> None:
        super().__init__()
        self.spectrogram, self.steps_per_frame = spectrogram, steps_per_frame
        self.spectrum_in = nn.Linear(spectrogram.num_bins, dim)
        self.steps_in = nn.Sequential(*(Block(dim) for _ in range(num_blocks)))
        self.frames_in = nn.Sequential(
            nn.Linear(dim * steps_per_frame, frame_dim), nn.SiLU(), Block(frame_dim), nn.SiLU(), nn.Linear(frame_dim, latent_dim))
        self.frames_out = nn.Sequential(
            TimeConvolution(latent_dim, frame_dim), Block(frame_dim), nn.SiLU(), nn.Linear(frame_dim, dim * steps_per_frame))
        self.steps_out = nn.Sequential(*(Block(dim) for _ in range(num_blocks)), nn.SiLU())
        self.spectrum_out = nn.Linear(dim, spectrogram.num_bins)

    def encode(self, compressed: Tensor) -> Tensor:
        """Compressed magnitudes `n t b`, t = f * steps_per_frame -> latents `n f d`."""
        steps = self.steps_in(self.spectrum_in(compressed))
        latents = self.frames_in(rearrange(steps, "n (f k) c -> n f (k c)", k=self.steps_per_frame))
        return F.layer_norm(latents, latents.shape[-1:])

    def decode(self, latents: Tensor) -> Tensor:
        """Latents `n f d` -> predicted compressed magnitudes `n t b`."""
        steps = rearrange(self.frames_out(latents), "n f (k c) -> n (f k) c", k=self.steps_per_frame)
        return self.spectrum_out(self.steps_out(steps))

    def sounds(self, latents: Tensor, num_iterations: int) -> Tensor:
        """Latents `n f d` -> waveforms float `n s` in [-1, 1], without gradient."""
        magnitudes = self.spectrogram.expand(self.decode(latents).detach())
        return sounds_of_magnitudes(magnitudes, self.spectrogram, num_iterations).clamp(-1, 1)
