"""Distances of sounds against closed forms."""

import math

import pytest
import torch

from ernie5.measure.sound_distance import CAP_DB, log_mel_distance, si_sdr, stft_distance

RATE = 16_000
TIME = torch.arange(RATE, dtype=torch.float64) / RATE
SINE = (0.5 * torch.sin(2 * math.pi * 440 * TIME)).float()
OTHER = (0.5 * torch.sin(2 * math.pi * 1000 * TIME)).float()  # orthogonal: both fit the second in whole periods


def test_scaling_and_offset_are_no_error():
    assert si_sdr(SINE, 0.1 * SINE) > 90
    assert si_sdr(SINE, SINE) == CAP_DB
    assert si_sdr(SINE, SINE + 0.2) > 90


@pytest.mark.parametrize("gain", [1.0, 0.1, 3.0])
def test_a_known_mixture(gain):
    assert si_sdr(SINE, SINE + gain * OTHER) == pytest.approx(-20 * math.log10(gain), abs=1e-3)


def test_what_is_not_defined_is_none_and_nothing_in_common_is_lowest():
    assert si_sdr(torch.zeros(100), torch.ones(100)) is None
    assert si_sdr(SINE, torch.zeros_like(SINE)) == -CAP_DB
    assert si_sdr(SINE, OTHER) < -60


def test_log_mel_distance():
    assert log_mel_distance(SINE, SINE, RATE) == 0
    noise = torch.randn(RATE) * 0.1
    # far above the floor, twice as loud is log 2 in every band
    assert log_mel_distance(noise, 2 * noise, RATE) == pytest.approx(math.log(2), abs=0.05)
    assert log_mel_distance(torch.zeros(10), torch.zeros(10), RATE) == 0  # shorter than a window


def test_stft_distance():
    noise = torch.randn(RATE) * 0.1
    assert stft_distance(noise, noise, RATE) == 0
    assert stft_distance(noise, 2 * noise, RATE) == pytest.approx(1 + math.log(2), abs=0.01)
    assert stft_distance(noise, torch.zeros_like(noise), RATE) > 5
