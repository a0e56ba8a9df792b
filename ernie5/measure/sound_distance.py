"""How far a reconstruction is from its sound.

    SI-SDR    10 log10(|a s|^2 / |a s - y|^2),  a = <y, s> / <s, s>, means removed first      in dB, more is better, within +-100
    log-mel   mean |log(1 + mel(s) / 0.1) - log(1 + mel(y) / 0.1)| in nepers: 80 bands, windows of 64 ms every 16 ms
    STFT      mean over windows of 32, 64, 128 ms of  |S - Y|_F / |S|_F  +  mean |log S - log Y|     magnitudes, a quarter window apart
SI-SDR asks for the waveform itself: a codec that makes up phases gets a low value however well it sounds.
Sources: Le Roux et al. 2019 (SI-SDR); Yamamoto, Song, Kim 2020 (multi-resolution STFT). Ours: the floor of log-mel, the cap.
Letters: n samples, t short frames, b bins. Sounds are float n in [-1, 1]; y is the reconstruction.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.tokenizers.audio.mel import log_mel, mel_filters

CAP_DB = 100.0
MEL_BANDS, MEL_FLOOR, MEL_WINDOW_S = 80, 0.1, 0.064
STFT_WINDOWS_S = (0.032, 0.064, 0.128)
STFT_FLOOR = 1e-3  # a full-scale sine has a quarter of the window: some hundreds


def si_sdr(sound: Tensor, other: Tensor) -> float | None:
    """Two `n` -> dB; None for a silent sound, where it is not defined."""
    s, y = sound.double() - sound.double().mean(), other.double() - other.double().mean()
    power = s.square().sum()
    if power <= 1e-12 * len(s):
        return None
    wanted = (y @ s) / power * s
    left, rest = wanted.square().sum(), (wanted - y).square().sum()
    ratio = float(10 * torch.log10(left / rest)) if left > 0 and rest > 0 else CAP_DB if left > 0 else -CAP_DB
    return max(-CAP_DB, min(CAP_DB, ratio))


def log_mel_distance(sound: Tensor, other: Tensor, sample_rate_hz: int) -> float:
    """Two `n` -> nepers."""
    window = _even(MEL_WINDOW_S * sample_rate_hz)
    filters = mel_filters(MEL_BANDS, window // 2 + 1, sample_rate_hz)
    a, b = (log_mel(magnitudes(x, window), filters, MEL_FLOOR) for x in (sound, other))
    return float((a - b).abs().mean())


def stft_distance(sound: Tensor, other: Tensor, sample_rate_hz: int) -> float:
    """Two `n` -> spectral convergence plus log-magnitude distance, mean over the windows."""
    total = 0.0
    for seconds in STFT_WINDOWS_S:
        a, b = (magnitudes(x, _even(seconds * sample_rate_hz)).clamp_min(STFT_FLOOR) for x in (sound, other))
        total += float((a - b).norm() / a.norm() + (a.log() - b.log()).abs().mean())
    return total / len(STFT_WINDOWS_S)


def magnitudes(sound: Tensor, window: int) -> Tensor:
    """`n` -> `t b`: Hann windows a quarter apart, mirrored at both ends (short sounds are followed by silence)."""
    padded = torch.nn.functional.pad(sound.float(), (0, max(0, window // 2 + 1 - len(sound))))
    spectra = torch.stft(padded, window, window // 4, window=torch.hann_window(window), center=True, return_complex=True)
    return spectra.abs().T


def _even(samples: float) -> int:
    return 4 * max(1, round(samples / 4))
