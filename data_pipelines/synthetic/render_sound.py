"""Sounds: one to five equal beeps of one tone, 1.04 s at 16 kHz (13 codec frames of 1280 samples).

    tone = sum_k a_k sin(2 pi k f t + k phi)     sine a = (1)     square a_k = 1/k, k odd     saw a_k = 1/k     (k <= 7, no aliasing)
Jitter: pitch +-1 %, loudness 0.35..0.5, first onset 0.02..0.06 s, noise sd 0.001. Beeps start 0.2 s apart and last 0.12 s.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.synthetic.combinations import BEEPS, PITCHES, TIMBRES, Combination

SAMPLE_RATE_HZ = 16_000
NUM_SAMPLES = 13 * 1280
PITCH_HZ = {pitch: 220.0 * 2 ** (3 * i / 12) for i, pitch in enumerate(PITCHES)}   # a3 = 220 Hz ... c6 = 1047 Hz
NUM_HARMONICS = 7
AMPLITUDES = {timbre: torch.tensor(a) for timbre, a in zip(TIMBRES, (
    [1.0] + [0.0] * (NUM_HARMONICS - 1),
    [1 / k if k % 2 else 0.0 for k in range(1, NUM_HARMONICS + 1)],
    [1 / k for k in range(1, NUM_HARMONICS + 1)],
), strict=True)}
PERIOD_S, BEEP_S, ATTACK_S, DECAY_S = 0.2, 0.12, 0.006, 0.03


def render_sound(combination: Combination, generator: np.random.Generator) -> Tensor:
    """One sound: float32 `n` in [-1, 1], n = 16640. Everything but the attributes is drawn from `generator`."""
    time_s = torch.arange(NUM_SAMPLES, dtype=torch.float64) / SAMPLE_RATE_HZ                        # n
    pitch_hz = PITCH_HZ[combination["pitch"]] * generator.uniform(0.99, 1.01)
    phase = 2 * math.pi * (pitch_hz * time_s + generator.uniform())
    amplitudes = AMPLITUDES[combination["timbre"]]
    tone = sum(a * torch.sin(k * phase) for k, a in enumerate(amplitudes.tolist(), start=1) if a)
    tone = tone / amplitudes.square().sum().sqrt()          # timbres are equally loud
    envelope = beeps_envelope(time_s, BEEPS.index(combination["beeps"]) + 1, onset_s=generator.uniform(0.02, 0.06))
    noise = generator.standard_normal(NUM_SAMPLES, dtype=np.float32)
    return (generator.uniform(0.35, 0.5) * (tone * envelope).float() + 0.001 * torch.from_numpy(noise)).clamp(-1, 1)


def beeps_envelope(time_s: Tensor, num_beeps: int, onset_s: float) -> Tensor:
    """Loudness over time, `n` in [0, 1]: each beep rises and falls along half a cosine."""
    since = time_s - onset_s
    beep = torch.clamp((since / PERIOD_S).floor(), 0, num_beeps - 1)
    since = since - beep * PERIOD_S                                          # time since the onset of the latest beep
    level = torch.minimum(since / ATTACK_S, (BEEP_S - since) / DECAY_S).clamp(0, 1)
    return 0.5 - 0.5 * torch.cos(math.pi * level)
