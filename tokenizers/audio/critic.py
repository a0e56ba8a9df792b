"""Critics of sounds: what they look at is a spectrum at several windows, or samples at several distances from each other.

    spectra   STFT (real and imaginary part as two channels) n 2 t b -> convolutions that halve b and look further in t -> map of logits
    periods   sound folded to n 1 s/p p -> convolutions along s/p -> map of logits
Spectra: EnCodec (arXiv 2210.13438); periods: HiFi-GAN (arXiv 2010.05646). Ours: sizes.
Letters: n sounds, s samples, t frames, b bins, p period, c channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from ernie5.tokenizers.adversarial import Judged
from ernie5.tokenizers.audio.spectrogram import Spectrogram

SLOPE = 0.2
DILATIONS = (1, 2, 4)  # in time
PERIOD_LAYERS = 4


class SpectrumCritic(nn.Module):
    """One window; `channels` in every layer."""

    def __init__(self, window: int, channels: int) -> None:
        super().__init__()
        self.spectrogram = Spectrogram(window, window // 4)
        first = weight_norm(nn.Conv2d(2, channels, (3, 9), padding=(1, 4)))
        inner = [weight_norm(nn.Conv2d(channels, channels, (3, 9), stride=(1, 2), dilation=(d, 1), padding=(d, 4))) for d in DILATIONS]
        self.layers = nn.ModuleList([first, *inner, weight_norm(nn.Conv2d(channels, channels, 3, padding=1))])
        self.out = weight_norm(nn.Conv2d(channels, 1, 3, padding=1))

    def forward(self, sounds: Tensor) -> tuple[Tensor, list[Tensor]]:
        """float `n s` -> logits, inner maps"""
        padded = F.pad(sounds, (0, -sounds.shape[-1] % self.spectrogram.hop))
        spectra = self.spectrogram.spectra(padded) / self.spectrogram.fft_size**0.5
        return _through(self.layers, self.out, rearrange(torch.view_as_real(spectra), "n t b k -> n k t b"))


class PeriodCritic(nn.Module):
    """One period; `channels` grow to four times as many."""

    def __init__(self, period: int, channels: int) -> None:
        super().__init__()
        self.period = period
        widths = [1, *(min(2**i, 4) * channels for i in range(PERIOD_LAYERS))]
        self.layers = nn.ModuleList(
            weight_norm(nn.Conv2d(a, b, (5, 1), stride=(3, 1), padding=(2, 0))) for a, b in zip(widths, widths[1:], strict=False))
        self.out = weight_norm(nn.Conv2d(widths[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, sounds: Tensor) -> tuple[Tensor, list[Tensor]]:
        """float `n s` -> logits, inner maps"""
        padded = F.pad(sounds, (0, -sounds.shape[-1] % self.period))
        return _through(self.layers, self.out, rearrange(padded, "n (s p) -> n 1 s p", p=self.period))


class SoundCritic(nn.Module):
    """All of them together, as tokenizers/adversarial.py wants it."""

    def __init__(self, windows: tuple[int, ...], periods: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.critics = nn.ModuleList([*(SpectrumCritic(w, channels) for w in windows), *(PeriodCritic(p, channels) for p in periods)])

    def forward(self, sounds: Tensor) -> Judged:
        """float `n s` -> one map of logits per critic"""
        judged = [critic(sounds) for critic in self.critics]
        return Judged([logits for logits, _ in judged], [x for _, features in judged for x in features])


def _through(layers: nn.ModuleList, out: nn.Module, x: Tensor) -> tuple[Tensor, list[Tensor]]:
    features = []
    for layer in layers:
        x = F.leaky_relu(layer(x), SLOPE)
        features.append(x)
    return out(x), features
