"""The judge of sounds: reads pitch, timbre and number of beeps off the waveform with plain signal code.

    beeps   runs in which the 35 ms level exceeds 0.5 of the sound's own, each ended by a fall below 0.35 of it
    pitch   the pitch name with the most power at its frequency (+-4 %), in all three timbres the strongest harmonic
    timbre  even and odd overtones relative to the fundamental, nearest of sine (0, 0), square (0, odd) and saw (even, odd)
Letters: n sounds, s samples, t frames, f bins, k harmonics.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from ernie5.data_pipelines.synthetic.combinations import BEEPS, PITCHES, TIMBRES
from ernie5.data_pipelines.synthetic.find_object import UNCLEAR
from ernie5.data_pipelines.synthetic.render_sound import AMPLITUDES, NUM_HARMONICS, NUM_SAMPLES, PITCH_HZ, SAMPLE_RATE_HZ

MIN_LEVEL = 0.02             # root mean square below which there is no sound; rendered beeps have 0.25 or more
MIN_TONE = 0.3               # share of the power that the harmonics of one pitch must hold; noise stays far below
RISE, FALL = 0.5, 0.35       # of the sound's own level
HOP, LEVEL_WINDOW = 80, 560  # samples; the pause between two beeps is 1280 long
FFT, FFT_HOP = 4096, 512     # samples; the window covers 2048 of them
CHUNK = 32                   # sounds at a time, so that spectra stay in the cache


def judge_sounds(waves: Tensor) -> list[dict[str, str]]:
    """float `n s` at 16 kHz -> the attributes of each sound; "unclear" where no tone or no known number of beeps is heard.

    Raises ValueError for another shape or type.
    """
    if waves.ndim != 2 or not waves.is_floating_point():
        raise ValueError(f"waves = {waves.dtype} {tuple(waves.shape)} must be float n s; stack mono sounds of one length")
    waves = F.pad(waves.float(), (0, max(0, NUM_SAMPLES - waves.shape[1])))     # silence follows a sound that ends early
    return [attributes for chunk in waves.split(CHUNK) for attributes in _judge(chunk)]


def _judge(waves: Tensor) -> list[dict[str, str]]:
    level = waves.unfold(1, LEVEL_WINDOW, HOP).square().mean(2).sqrt()                         # n t
    own = level.topk(max(1, int(0.1 * level.shape[1])), dim=1).values.mean(1)                  # n, in the beeps
    num_beeps = [_count_runs(row, o) for row, o in zip(level.tolist(), own.tolist(), strict=True)]
    power = _power(waves)                                                                      # n f
    lines = (power - power.median(1, keepdim=True).values).clamp_min(0)                        # without the noise between the harmonics
    pitches = [PITCH_HZ[pitch] for pitch in PITCHES]
    pitch = torch.stack([_band(lines, hz, 0.04) for hz in pitches], 1).argmax(1)               # n
    harmonics = torch.stack([_harmonics(row, pitches[p]) for row, p in zip(lines, pitch.tolist(), strict=True)])   # n k
    tonal = (harmonics.sum(1) / power.sum(1).clamp_min(1e-12) > MIN_TONE) & (own > MIN_LEVEL)
    timbre = _timbre(harmonics)
    return [
        {
            "timbre": TIMBRES[timbre[i]] if tonal[i] else UNCLEAR,
            "pitch": PITCHES[pitch[i]] if tonal[i] else UNCLEAR,
            "beeps": BEEPS[num_beeps[i] - 1] if own[i] > MIN_LEVEL and 1 <= num_beeps[i] <= len(BEEPS) else UNCLEAR,
        }
        for i in range(len(waves))
    ]


def _count_runs(level: list[float], own: float) -> int:
    count, loud = 0, False
    for value in level:
        if not loud and value > RISE * own:
            count, loud = count + 1, True
        elif loud and value < FALL * own:
            loud = False
    return count


def _power(waves: Tensor) -> Tensor:
    """Power spectrum over the loud frames: `n f`, f = FFT / 2 + 1 bins of 3.9 Hz."""
    spectrum = torch.stft(waves, FFT, FFT_HOP, win_length=FFT // 2, window=torch.hann_window(FFT // 2), return_complex=True).abs().square()
    loudness = spectrum.sum(1, keepdim=True)                                                   # n 1 t
    return (spectrum * (loudness > 0.1 * loudness.amax(2, keepdim=True))).sum(2)


def _band(power: Tensor, hz: float, width: float) -> Tensor:
    """Power within `width` of a frequency (at least +-12 Hz): `... f` -> `...`."""
    bin_hz = SAMPLE_RATE_HZ / FFT
    half = max(12.0, width * hz)
    return power[..., round((hz - half) / bin_hz):round((hz + half) / bin_hz) + 1].sum(-1)


def _harmonics(power: Tensor, hz: float) -> Tensor:
    """Power of every harmonic: `f` -> `k`. Bands keep apart: their width is a fraction of the fundamental."""
    return torch.stack([_band(power, k * hz, 0.15 / k) for k in range(1, NUM_HARMONICS + 1)])


def _timbre(harmonics: Tensor) -> Tensor:
    """Index of the nearest timbre in the plane (even, odd) of harmonic powers relative to the first, cube roots taken: `n k` -> `n`."""
    known = torch.stack([AMPLITUDES[timbre].square() for timbre in TIMBRES])                   # 3 k
    return torch.cdist(_even_odd(harmonics), _even_odd(known)).argmin(1)


def _even_odd(power: Tensor) -> Tensor:
    relative = power / power[:, :1].clamp_min(1e-12)
    return torch.stack([relative[:, 1::2].sum(1), relative[:, 2::2].sum(1)], 1) ** (1 / 3)   # n 2
