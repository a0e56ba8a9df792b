"""What the codec is trained on; every function returns a mean over everything that it is given.

    magnitude         mean square of predicted - true log(1 + |STFT| / floor): cheap, and harmonics count as much as loudness
    multi-resolution  spectral convergence + log-magnitude distance of two waveforms at several window lengths
    log-mel           mean absolute difference of log-mel energies, in nepers
    wave              mean absolute difference of samples, relative to the true ones
    commitment        mean square of latent - quantized latent
    distillation      of a projection of level 1 from the teacher: "l2" or "cosine"
The two waveform losses compare through the *true* phase (train.py), because phase is not coded.
Report: §2.3.1 names distillation; the others are field practice.
Letters: n sounds, s samples, t short frames, b bins, f codec frames, d any width.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.tokenizers.audio.mel import log_mel, mel_filters
from ernie5.tokenizers.audio.spectrogram import Spectrogram, magnitudes_of

WINDOWS = (256, 768, 2048)
FLOOR = 0.1


def magnitude_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Compressed magnitudes `n t b` twice -> scalar."""
    return F.mse_loss(predicted, target)


def multi_resolution_loss(decoded: Tensor, sounds: Tensor, windows: tuple[int, ...] = WINDOWS) -> Tensor:
    """Waveforms `n s` twice -> scalar. s is padded to whole hops of half a window."""
    total = sounds.new_zeros(())
    for window in windows:
        spectrogram = Spectrogram(window, window // 2)
        padding = (0, -sounds.shape[-1] % spectrogram.hop)
        a, b = (magnitudes_of(spectrogram.spectra(F.pad(x, padding))) for x in (decoded, sounds))
        convergence = (a - b).abs().mean() / b.abs().mean().clamp_min(FLOOR)
        total = total + convergence + 0.3 * (torch.log(a + FLOOR) - torch.log(b + FLOOR)).abs().mean()
    return total / len(windows)


def log_mel_distance(decoded: Tensor, sounds: Tensor, sample_rate_hz: int, num_bands: int = 80) -> Tensor:
    """Waveforms `n s` twice -> scalar; 64 ms windows every 16 ms at 16 kHz."""
    spectrogram = Spectrogram(1024, 256)
    padding = (0, -sounds.shape[-1] % spectrogram.hop)
    filters = mel_filters(num_bands, spectrogram.num_bins, sample_rate_hz)
    a, b = (log_mel(magnitudes_of(spectrogram.spectra(F.pad(x, padding))), filters, FLOOR) for x in (decoded, sounds))
    return (a - b).abs().mean()


def wave_loss(decoded: Tensor, sounds: Tensor) -> Tensor:
    """Waveforms `n s` twice -> scalar; 1 for a silent answer."""
    return (decoded - sounds).abs().mean() / sounds.abs().mean().clamp_min(1e-4)


def commitment_loss(latents: Tensor, quantized: Tensor) -> Tensor:
    """`n f d` twice -> scalar; pulls the encoder to its codes (the codes follow by moving averages)."""
    return F.mse_loss(latents, quantized.detach())


def distillation_loss(projected: Tensor, taught: Tensor, kind: Literal["l2", "cosine"]) -> Tensor:
    """`n f d` twice, the teacher's normalised -> scalar; "cosine" is 1 - cosine similarity."""
    if kind == "cosine":
        return 1 - F.cosine_similarity(projected, taught, dim=-1).mean()
    return F.mse_loss(projected, taught)
