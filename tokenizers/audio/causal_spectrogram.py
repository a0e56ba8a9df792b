"""Short-time spectra that end where they stand, and sounds out of them, for whole sounds and for streams.

    step t hears the samples (t+1) hop - fft_size <= s < (t+1) hop         silence before the first; nothing after the step
    a sample is complete when all steps over it are known: fft_size - hop samples late
A Hann window, once on the way in and once on the way out: its squares add up to a constant, so the inverse is exact.
Ours. Letters: n sounds, s samples, t steps, b bins = fft_size / 2 + 1, w = fft_size, o = fft_size - hop.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

LEAST_SHARE = 0.3  # of the full weight, at the end of a sound, where further steps are missing


@dataclass(frozen=True)
class CausalSpectrogram:
    """One pair of transforms; `hop` divides `fft_size` at least three times."""

    fft_size: int
    hop: int
    floor: float

    @property
    def num_bins(self) -> int:
        """b"""
        return self.fft_size // 2 + 1

    @property
    def latency(self) -> int:
        """o, in samples"""
        return self.fft_size - self.hop

    def spectra(self, sounds: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """float `n s` (whole steps) -> complex `n t b`, and the last o samples, for what follows."""
        if past is None:
            past = sounds.new_zeros(len(sounds), self.latency)
        heard = torch.cat([past, sounds], 1)
        return self.spectrum(heard.unfold(1, self.fft_size, self.hop)), heard[:, sounds.shape[1]:]

    def spectrum(self, frames: Tensor) -> Tensor:
        """`... w` -> complex `... b`"""
        return torch.fft.rfft(frames * self._window(frames))

    def windowed(self, spectra: Tensor) -> Tensor:
        """complex `... b` -> what a step adds to the sound, `... w`."""
        frames = torch.fft.irfft(spectra, n=self.fft_size)
        return frames * (self._window(frames) / self._full)

    def sounds(self, spectra: Tensor, past: Tensor | None) -> tuple[Tensor, Tensor]:
        """complex `n t b` -> the t * hop samples that are complete by now, float `n s`, o samples late, and a begun rest of o samples."""
        frames = self.windowed(spectra)                                                      # n t w
        length = frames.shape[1] * self.hop + self.latency
        summed = F.fold(rearrange(frames, "n t w -> n w t"), (1, length), (1, self.fft_size), stride=(1, self.hop))[:, 0, 0]
        if past is not None:
            summed = torch.cat([summed[:, :self.latency] + past, summed[:, self.latency:]], 1)
        return summed[:, :-self.latency], summed[:, -self.latency:]

    def last(self, past: Tensor) -> Tensor:
        """The begun rest as the end of the sound: divided by the weight that it has, though by no less than `LEAST_SHARE`."""
        return past / self.weight(self.hop, past).clamp_min(LEAST_SHARE)

    def weight(self, first: int, like: Tensor) -> Tensor:
        """Of the full weight, what a step and all before it have at the samples of its window from `first` on."""
        squares = self._window(like).square()
        shifted = [F.pad(squares[start:], (0, start - first)) for start in range(first, self.fft_size, self.hop)]
        return torch.stack(shifted).sum(0) / self._full

    def compress(self, magnitudes: Tensor) -> Tensor:
        """log(1 + magnitude / floor)"""
        return torch.log1p(magnitudes / self.floor)

    def expand(self, compressed: Tensor) -> Tensor:
        """The inverse of `compress`, kept between silence and twice a full-scale sine so that no prediction can overflow."""
        return self.floor * torch.expm1(compressed.clamp(0, math.log1p(self.fft_size / self.floor)))

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.fft_size, dtype=like.dtype, device=like.device)

    @property
    def _full(self) -> float:
        """The constant that squared windows add up to: 3/8 of a window, for each of its hops."""
        return 0.375 * self.fft_size / self.hop
