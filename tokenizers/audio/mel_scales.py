"""The multi-scale mel loss: log-mel energies of two waveforms compared at several windows, short ones for onsets, long ones for pitch.

    mean over windows w of  mean | log(1 + M_w(y) / floor_w) - log(1 + M_w(x) / floor_w) |      floor_w = w * FLOOR
Ours: windows, bands, floor (as losses.log_mel_distance has it). Letters: x true, y decoded; n sounds, s samples.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.tokenizers.audio.mel import log_mel, mel_filters
from ernie5.tokenizers.audio.spectrogram import Spectrogram, magnitudes_of

FLOOR = 1e-4
MOST_BANDS = 80


class MelScales:
    """Filters for one sample rate."""

    def __init__(self, windows: tuple[int, ...], sample_rate_hz: int) -> None:
        self.scales = [Spectrogram(window, window // 4) for window in windows]
        self.filters = [mel_filters(min(MOST_BANDS, s.num_bins // 5), s.num_bins, sample_rate_hz) for s in self.scales]

    def loss(self, decoded: Tensor, sounds: Tensor) -> Tensor:
        """Waveforms `n s` twice -> scalar."""
        parts = []
        for scale, filters in zip(self.scales, self.filters, strict=True):
            padding = (0, -sounds.shape[-1] % scale.hop)
            a, b = (log_mel(magnitudes_of(scale.spectra(F.pad(x, padding))), filters, FLOOR * scale.fft_size) for x in (decoded, sounds))
            parts.append((a - b).abs().mean())
        return torch.stack(parts).mean()
