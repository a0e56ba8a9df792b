"""Opus and MP3: aligned with the original, as long as it, at the rate of their packets."""

import math

import pytest
import torch

from ernie5.measure.sound_codecs import at_bit_rate, available
from ernie5.measure.sound_distance import si_sdr

RATE = 16_000


def tune(seconds: float = 1.5) -> torch.Tensor:
    time = torch.arange(int(seconds * RATE), dtype=torch.float64) / RATE
    sweep = torch.sin(2 * math.pi * (200 + 150 * time) * time)
    return (0.4 * sweep * (0.6 + 0.4 * torch.sin(2 * math.pi * 3 * time))).float()


def lag(a: torch.Tensor, b: torch.Tensor) -> int:
    """By how many samples b comes later than a."""
    size = 2 * len(a)
    cross = torch.fft.irfft(torch.fft.rfft(b, size) * torch.fft.rfft(a, size).conj(), size)
    best = int(cross.argmax())
    return best if best < len(a) else best - size


@pytest.mark.parametrize("name", sorted(available()))
def test_a_good_rate_gives_the_sound_back_in_time(name):
    sound = tune()
    coded = at_bit_rate(name, sound, RATE, 48_000)
    assert coded.sound.shape == sound.shape
    assert lag(sound, coded.sound) == 0
    assert si_sdr(sound, coded.sound) > 15
    assert coded.bits / 1.5 == pytest.approx(48_000, rel=0.35)


@pytest.mark.parametrize("name", sorted(available()))
def test_fewer_bits_more_error(name):
    sound = tune()
    low, high = (at_bit_rate(name, sound, RATE, rate) for rate in (8_000, 32_000))
    assert low.bits < high.bits and si_sdr(sound, low.sound) < si_sdr(sound, high.sound)


def test_both_codecs_are_there():
    assert set(available()) == {"opus", "mp3"}


def test_a_rate_that_no_codec_takes_is_resampled():
    coded = at_bit_rate("opus", tune()[:11_025], 11_025, 24_000)
    assert coded.sound.shape == (11_025,)
