"""Short-time spectra of sounds, and what the codec sees of them: compressed magnitudes.

    frames  = sound cut every `hop` samples (half a window of silence added on both sides: exactly samples / hop frames)
    spectra = rfft(hann window * frame)          compressed = log(1 + |spectra| / floor)
A full-scale sine has |spectra| = fft_size / 4 at its peak. Below `floor` the logarithm turns linear, so silence and faint noise are all but
zero and cost no codes. Everything is channels-last.
Ours: the report does not say how a waveform is coded.
Letters: n sounds, s samples, t short frames, b bins = fft_size / 2 + 1, w window samples = fft_size.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def magnitudes_of(spectra: Tensor) -> Tensor:
    """|z| of any shape; several times faster on CPUs than `abs`, and unlike it differentiable where z = 0."""
    return torch.addcmul(spectra.real.square(), spectra.imag, spectra.imag).add(1e-12).sqrt()


@dataclass(frozen=True)
class Spectrogram:
    """One pair of transforms; `hop` divides the number of samples and is at most half of `fft_size`."""

    fft_size: int = 1024
    hop: int = 320
    floor: float = 0.5

    @property
    def num_bins(self) -> int:
        """b"""
        return self.fft_size // 2 + 1

    def spectra(self, sounds: Tensor) -> Tensor:
        """float `n s` -> complex `n t b` with t = s / hop."""
        assert sounds.shape[-1] % self.hop == 0, "pad sounds to whole frames first"
        return torch.fft.rfft(F.pad(sounds, self._margins()).unfold(-1, self.fft_size, self.hop) * self._window(sounds))

    def sounds(self, spectra: Tensor) -> Tensor:
        """complex `n t b` -> float `n s`: the least-squares inverse of `spectra` (windowed overlap-add over the sum of squared windows)."""
        frames = torch.fft.irfft(spectra, n=self.fft_size)                                   # n t w
        window = self._window(frames)
        summed = self._overlap_add(frames * window)
        weight = self._overlap_add(window.square().expand(1, *frames.shape[1:]))
        left, right = self._margins()
        inside = slice(left, summed.shape[-1] - right)
        return summed[:, inside] / weight[:, inside]

    def compressed(self, sounds: Tensor) -> Tensor:
        """float `n s` -> `n t b`, zero or more."""
        return self.compress(magnitudes_of(self.spectra(sounds)))

    def compress(self, magnitudes: Tensor) -> Tensor:
        """log(1 + magnitude / floor)"""
        return torch.log1p(magnitudes / self.floor)

    def expand(self, compressed: Tensor) -> Tensor:
        """The inverse of `compress`, kept between silence and twice a full-scale sine so that no prediction can overflow."""
        loudest = torch.log1p(torch.tensor(self.fft_size / 2 / self.floor)).item()
        return self.floor * torch.expm1(compressed.clamp(0, loudest))

    def _window(self, like: Tensor) -> Tensor:
        return torch.hann_window(self.fft_size, dtype=like.dtype, device=like.device)

    def _margins(self) -> tuple[int, int]:
        left = (self.fft_size - self.hop) // 2
        return left, self.fft_size - self.hop - left

    def _overlap_add(self, frames: Tensor) -> Tensor:
        num_samples = (frames.shape[1] - 1) * self.hop + self.fft_size
        columns = rearrange(frames, "n t w -> n w t")
        return F.fold(columns, (1, num_samples), (1, self.fft_size), stride=(1, self.hop))[:, 0, 0]   # n s
