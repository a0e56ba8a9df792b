"""Encoder and decoder of the causal codec: short-time spectra -> latents at 12.5 Hz -> short-time spectra, never looking ahead.

    encoder   log(1 + |STFT|) -> width c per step -> causal stack -> the steps of a codec frame side by side -> width h -> causal stack -> d
    decoder   d -> h -> causal stack -> the steps of the frame again -> causal stack -> log(1 + |STFT|) -> sound (causal_phase.py)
The latent is normalised to mean 0, variance 1, so that codebooks do not chase its scale. Ours: the sizes.
Letters: n sounds, s samples, f codec frames, t steps, k steps of a frame, b bins, c h widths, d latent width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.audio.causal_config import CausalNetworkConfig
from ernie5.tokenizers.audio.causal_layers import CausalConvolution, stack
from ernie5.tokenizers.audio.causal_spectrogram import CausalSpectrogram
from ernie5.tokenizers.audio.spectrogram import magnitudes_of

Past = list  # of tensors, or of lists of them: what a module remembers of a stream


class Encoder(nn.Module):
    """Spectra -> latents."""

    def __init__(self, config: CausalNetworkConfig, spectrogram: CausalSpectrogram) -> None:
        super().__init__()
        self.config, self.spectrogram = config, spectrogram
        parts = 3 if config.phase_in else 1
        self.spectrum_in = nn.Linear(parts * spectrogram.num_bins, config.dim)
        self.steps = stack(config.dim, config.step_blocks, config.step_layers, config.head_dim, config.step_window)
        self.frame_in = nn.Linear(config.dim * config.steps_per_frame, config.frame_dim)
        self.frames = stack(config.frame_dim, config.frame_blocks, config.frame_layers, config.head_dim, config.frame_window)
        self.latent_out = nn.Linear(config.frame_dim, config.latent_dim)

    def forward(self, spectra: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """complex `n t b` of whole codec frames -> float32 `n f d`"""
        past_steps, past_frames = past or (None, None)
        x, past_steps = self.steps(self.spectrum_in(self._seen(spectra)), past_steps)
        x = F.silu(self.frame_in(rearrange(x, "n (f k) c -> n f (k c)", k=self.config.steps_per_frame)))
        x, past_frames = self.frames(x, past_frames)
        latents = self.latent_out(F.silu(x)).float()
        return F.layer_norm(latents, latents.shape[-1:]), [past_steps, past_frames]

    def _seen(self, spectra: Tensor) -> Tensor:
        magnitudes = magnitudes_of(spectra)
        compressed = self.spectrogram.compress(magnitudes)
        if not self.config.phase_in:
            return compressed
        scale = compressed / magnitudes
        return torch.cat([compressed, spectra.real * scale, spectra.imag * scale], -1)


class Decoder(nn.Module):
    """Latents -> magnitudes."""

    def __init__(self, config: CausalNetworkConfig, spectrogram: CausalSpectrogram) -> None:
        super().__init__()
        self.config, self.spectrogram = config, spectrogram
        self.latent_in = CausalConvolution(config.latent_dim, config.frame_dim)
        self.frames = stack(config.frame_dim, config.frame_blocks, config.frame_layers, config.head_dim, config.frame_window)
        self.frame_out = nn.Linear(config.frame_dim, config.dim * config.steps_per_frame)
        self.steps = stack(config.dim, config.step_blocks, config.step_layers, config.head_dim, config.step_window)
        self.magnitude_out = nn.Linear(config.dim, spectrogram.num_bins)

    def forward(self, latents: Tensor, past: Past | None) -> tuple[Tensor, Tensor, Past]:
        """float `n f d` -> the last features `n t c`, compressed magnitudes float32 `n t b`."""
        past_latents, past_frames, past_steps = past or (None, None, None)
        x, past_latents = self.latent_in(latents, past_latents)
        x, past_frames = self.frames(x, past_frames)
        x = rearrange(self.frame_out(F.silu(x)), "n f (k c) -> n (f k) c", k=self.config.steps_per_frame)
        x, past_steps = self.steps(x, past_steps)
        x = F.silu(x)
        return x, self.magnitude_out(x).float(), [past_latents, past_frames, past_steps]
