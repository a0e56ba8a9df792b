"""A waveform from magnitudes alone: no phase is coded, so none has to be learned.

    start    phase_t(b) = phase_{t-1}(b) + 2 pi hop f_t(b): every spectral peak goes on at its own frequency f (parabolic interpolation),
             and the bins around a peak follow it with alternating sign, as a Hann window's main lobe does
    refine   spectra <- magnitudes * phase of STFT(inverse(spectra)), accelerated by `MOMENTUM`, a few times
Start: single-pass inversion (Beauregard, Harish, Wyse 2015). Refinement: fast Griffin-Lim (Perraudin, Balazs, Sondergaard 2013).
Ours: the report does not say how codes become a waveform. A prototype that learned phase needed several times the training.
Letters: n sounds, t short frames, b bins, s samples.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.tokenizers.audio.spectrogram import Spectrogram

MOMENTUM = 0.99


@torch.no_grad()
def sounds_of_magnitudes(magnitudes: Tensor, spectrogram: Spectrogram, num_iterations: int = 8) -> Tensor:
    """float `n t b` (zero or more) -> float `n s`, s = t * hop. Deterministic, and each sound is free of the others."""
    spectra = torch.polar(magnitudes, continued_phases(magnitudes, spectrogram))
    previous = torch.zeros_like(spectra)
    for iteration in range(num_iterations):
        consistent = spectrogram.spectra(spectrogram.sounds(spectra))
        ahead = consistent if iteration == 0 else consistent + MOMENTUM * (consistent - previous)
        spectra, previous = torch.polar(magnitudes, ahead.angle()), consistent
    return spectrogram.sounds(spectra)


def continued_phases(magnitudes: Tensor, spectrogram: Spectrogram) -> Tensor:
    """Phases `n t b` in which every peak of `magnitudes` is one steady sinusoid from frame to frame."""
    nearest, advance, sign_turn = peak_advance(magnitudes, spectrogram.fft_size, spectrogram.hop)
    phase = torch.zeros_like(magnitudes[:, 0])                                                   # n b
    phases = []
    for t in range(magnitudes.shape[1]):
        phase = torch.remainder((phase + advance[:, t]).gather(1, nearest[:, t]) + sign_turn[:, t], 2 * math.pi)
        phases.append(phase)
    return torch.stack(phases, 1)


def peak_advance(magnitudes: Tensor, fft_size: int, hop: int) -> tuple[Tensor, Tensor, Tensor]:
    """`... b` -> of every bin: its nearest peak, how far a sinusoid there turns in one hop, and the turn of the bin against its peak."""
    bins = torch.arange(magnitudes.shape[-1], device=magnitudes.device)
    lower, upper = F.pad(magnitudes[..., :-1], (1, 0)), F.pad(magnitudes[..., 1:], (0, 1))
    is_peak = (magnitudes > lower) & (magnitudes >= upper)
    offset = 0.5 * (lower - upper) / (lower - 2 * magnitudes + upper).clamp_max(-1e-9)           # of the true peak, in bins
    advance = 2 * math.pi * hop / fft_size * (bins + offset.clamp(-0.5, 0.5))
    nearest = _nearest_peak(is_peak, bins)
    return nearest, advance, math.pi * ((bins - nearest).abs() % 2)


def _nearest_peak(is_peak: Tensor, bins: Tensor) -> Tensor:
    """Bin of the nearest peak of every bin; in a frame without peaks every bin follows an end of the spectrum."""
    far = 2 * len(bins)
    below = torch.where(is_peak, bins, -far).cummax(-1).values
    above = torch.where(is_peak, bins, far).flip(-1).cummin(-1).values.flip(-1)
    return torch.where(bins - below <= above - bins, below, above).clamp(0, len(bins) - 1)
