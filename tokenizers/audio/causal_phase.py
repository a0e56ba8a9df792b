"""From predicted magnitudes to sound, step by step: two ways to come to a phase.

    continued   every spectral peak goes on at its own frequency (phase.py); then, a few times, the phase becomes that of its spectrum
                in the sound so far: angle of STFT((rest of earlier steps + this step) / weight). No weights; exact training is regression
    learned     the angle of two numbers per bin that the network predicts; trained through the sound, it wants a critic and a GPU
`forward` makes sound, `taught` the spectra that training compares: the continued phase takes the true one there.
Continued: RTISI without looking ahead (Beauregard, Zhu, Wyse 2005), started as in single-pass inversion (2015). Learned: Vocos (arXiv
2306.00814). Ours: the choice, by measurement (docs/experiments.md). Letters: n items, t steps, b bins, c width, o = fft_size - hop.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ernie5.tokenizers.audio.causal_spectrogram import CausalSpectrogram
from ernie5.tokenizers.audio.phase import peak_advance

LEAST_WEIGHT = 0.05


class ContinuedPhase(nn.Module):
    """A whole sound and a stream go through it in pieces of the same shape, for a peak must be the same peak in both."""

    frames_at_once = 1

    def __init__(self, spectrogram: CausalSpectrogram, num_iterations: int) -> None:
        super().__init__()
        self.spectrogram, self.num_iterations = spectrogram, num_iterations

    def taught(self, features: Tensor, compressed: Tensor, spectra: Tensor) -> Tensor:
        """Predicted magnitudes `n t b` with the phase of the true spectra."""
        return torch.polar(self.spectrogram.expand(compressed), spectra.angle())

    def forward(self, features: Tensor, compressed: Tensor, past: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """Compressed magnitudes `n t b` -> the samples that are complete by now, and [phase n b, begun rest n o]."""
        scale, hop = self.spectrogram, self.spectrogram.hop
        magnitudes = scale.expand(compressed)
        phase, rest = past or [torch.zeros_like(magnitudes[:, 0]), magnitudes.new_zeros(len(magnitudes), scale.latency)]
        weight = scale.weight(0, magnitudes).clamp_min(LEAST_WEIGHT)
        samples = []
        for magnitude in magnitudes.unbind(1):                                     # n b
            nearest, advance, sign_turn = peak_advance(magnitude, scale.fft_size, hop)
            phase = (phase + advance).gather(1, nearest) + sign_turn
            begun = F.pad(rest, (0, hop))                                          # n w
            for _ in range(self.num_iterations):
                heard = (begun + scale.windowed(torch.polar(magnitude, phase))) / weight
                phase = scale.spectrum(heard).angle()
            total = begun + scale.windowed(torch.polar(magnitude, phase))
            samples.append(total[:, :hop])
            phase, rest = torch.remainder(phase, 2 * math.pi), total[:, hop:]
        return torch.cat(samples, 1), [phase, rest]


class LearnedPhase(nn.Module):
    """Two more outputs per bin."""

    frames_at_once = 512

    def __init__(self, spectrogram: CausalSpectrogram, dim: int) -> None:
        super().__init__()
        self.spectrogram, self.out = spectrogram, nn.Linear(dim, 2 * spectrogram.num_bins)

    def taught(self, features: Tensor, compressed: Tensor, spectra: Tensor) -> Tensor:
        """`n t c`, `n t b` -> complex `n t b`; the true spectra are not looked at."""
        real, imag = self.out(features).float().chunk(2, -1)
        scale = self.spectrogram.expand(compressed) * torch.rsqrt(real.square() + imag.square() + 1e-6)
        return torch.complex(real * scale, imag * scale)

    def forward(self, features: Tensor, compressed: Tensor, past: list[Tensor] | None) -> tuple[Tensor, list[Tensor]]:
        """`n t c`, `n t b` -> the samples that are complete by now, and [begun rest n o]."""
        samples, rest = self.spectrogram.sounds(self.taught(features, compressed, features), past[-1] if past else None)
        return samples, [rest]
