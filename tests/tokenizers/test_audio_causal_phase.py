"""How magnitudes become sound without looking ahead."""

import math

import pytest
import torch

from ernie5.tokenizers.audio.causal_phase import ContinuedPhase, LearnedPhase
from ernie5.tokenizers.audio.causal_spectrogram import CausalSpectrogram
from ernie5.tokenizers.audio.spectrogram import magnitudes_of

SPECTROGRAM = CausalSpectrogram(640, 160, 0.1)
NOTHING = torch.zeros(0)  # features, which the continued phase does not look at


def tones(num_samples: int = 6400) -> torch.Tensor:
    """Two sounds `2 n`: one steady chord, one tone with a pause."""
    t = torch.arange(num_samples) / 16_000
    chord = 0.3 * torch.sin(2 * math.pi * 330 * t) + 0.2 * torch.sin(2 * math.pi * 990 * t + 1)
    return torch.stack([chord, 0.5 * torch.sin(2 * math.pi * 523 * t) * ((t < 0.12) | (t > 0.25))])


def compressed(sounds: torch.Tensor) -> torch.Tensor:
    return SPECTROGRAM.compress(magnitudes_of(SPECTROGRAM.spectra(sounds, None)[0]))


def test_magnitudes_alone_give_back_a_sound_with_these_magnitudes():
    wanted, errors = compressed(tones()), {}
    for num_iterations in (0, 4):
        sounds, (_, rest) = ContinuedPhase(SPECTROGRAM, num_iterations)(NOTHING, wanted, None)
        whole = torch.cat([sounds[:, SPECTROGRAM.latency:], SPECTROGRAM.last(rest)], 1)
        errors[num_iterations] = float((SPECTROGRAM.expand(compressed(whole)) - SPECTROGRAM.expand(wanted)).norm()
                                       / SPECTROGRAM.expand(wanted).norm())
    assert errors[4] < errors[0] < 0.3 and errors[4] < 0.15


def test_steps_in_pieces_are_steps_at_once():
    phase, wanted = ContinuedPhase(SPECTROGRAM, 2), compressed(tones())
    whole, _ = phase(NOTHING, wanted, None)
    past, pieces = None, []
    for piece in wanted.split(3, 1):
        sounds, past = phase(NOTHING, piece, past)
        pieces.append(sounds)
    assert torch.equal(torch.cat(pieces, 1), whole)


def test_sounds_are_free_of_each_other_and_silence_stays_silent():
    phase, wanted = ContinuedPhase(SPECTROGRAM, 2), compressed(tones())
    torch.testing.assert_close(phase(NOTHING, wanted, None)[0][1:], phase(NOTHING, wanted[1:], None)[0], atol=1e-4, rtol=0)
    assert float(phase(NOTHING, torch.zeros(1, 8, 321), None)[0].abs().max()) < 1e-6


def test_training_compares_through_the_true_phase_or_the_learned_one():
    spectra, _ = SPECTROGRAM.spectra(tones(), None)
    magnitudes = SPECTROGRAM.compress(magnitudes_of(spectra))
    torch.testing.assert_close(ContinuedPhase(SPECTROGRAM, 2).taught(NOTHING, magnitudes, spectra), spectra, atol=1e-3, rtol=1e-3)
    learned = LearnedPhase(SPECTROGRAM, 8)
    taught = learned.taught(torch.randn(2, 40, 8), magnitudes, spectra)
    torch.testing.assert_close(magnitudes_of(taught), magnitudes_of(spectra), atol=1e-3, rtol=1e-2)
    taught.real.sum().backward()
    assert float(learned.out.weight.grad.abs().max()) > 0


@pytest.mark.parametrize("first", [0, 160, 480])
def test_the_weight_at_the_end_of_a_sound_is_what_windows_add_up_to(first):
    ones = SPECTROGRAM.weight(first, torch.zeros(1))
    squares = torch.hann_window(640).square() / (0.375 * 4)
    by_hand = sum(torch.cat([squares[k:], torch.zeros(k - first)]) for k in range(first, 640, 160))
    torch.testing.assert_close(ones, by_hand)
    assert len(ones) == 640 - first and float(ones.max()) <= 1 + 1e-5
