"""Spectra, phases, mel bands, losses: the signal side of the codec."""

import math

import pytest
import torch

from ernie5.tokenizers.audio import losses
from ernie5.tokenizers.audio.mel import mel_filters
from ernie5.tokenizers.audio.phase import sounds_of_magnitudes
from ernie5.tokenizers.audio.spectrogram import Spectrogram, magnitudes_of
from ernie5.tokenizers.audio.waveform_autoencoder import WaveformAutoencoder

RATE = 16_000
SPECTROGRAM = Spectrogram(fft_size=1024, hop=320, floor=0.5)


def tones(num_samples: int = 6400) -> torch.Tensor:
    """Two sounds `2 n`: one steady chord, one tone with a pause."""
    t = torch.arange(num_samples) / RATE
    chord = 0.3 * torch.sin(2 * math.pi * 330 * t) + 0.2 * torch.sin(2 * math.pi * 990 * t + 1)
    return torch.stack([chord, 0.5 * torch.sin(2 * math.pi * 523 * t) * ((t < 0.12) | (t > 0.25))])


@pytest.mark.parametrize("fft_size, hop", [(1024, 320), (640, 256), (256, 128)])
def test_inverse_of_the_spectra_is_the_sound(fft_size, hop):
    sounds = 0.1 * torch.randn(2, 8 * hop)
    spectrogram = Spectrogram(fft_size, hop)
    spectra = spectrogram.spectra(sounds)
    assert spectra.shape == (2, 8, spectrogram.num_bins)
    torch.testing.assert_close(spectrogram.sounds(spectra), sounds, atol=1e-5, rtol=0)


def test_expand_undoes_compress_and_bounds_predictions():
    magnitudes = torch.tensor([0.0, 0.01, 1.0, 250.0])
    torch.testing.assert_close(SPECTROGRAM.expand(SPECTROGRAM.compress(magnitudes)), magnitudes)
    assert SPECTROGRAM.expand(torch.tensor([-3.0])) == 0
    assert SPECTROGRAM.expand(torch.tensor([1e9])) <= 513


def test_full_scale_sine_has_the_stated_magnitude():
    sound = torch.sin(2 * math.pi * 1000 * torch.arange(6400) / RATE)[None]
    assert float(magnitudes_of(SPECTROGRAM.spectra(sound))[0, 10].max()) == pytest.approx(256, rel=0.01)


def test_magnitudes_have_a_gradient_at_silence():
    sound = torch.zeros(1, 640, requires_grad=True)
    magnitudes_of(SPECTROGRAM.spectra(sound)).sum().backward()
    assert torch.isfinite(sound.grad).all()


def test_magnitudes_alone_give_back_a_sound_with_these_magnitudes():
    magnitudes = magnitudes_of(SPECTROGRAM.spectra(tones()))
    errors = {}
    for num_iterations in (0, 8):
        rebuilt = magnitudes_of(SPECTROGRAM.spectra(sounds_of_magnitudes(magnitudes, SPECTROGRAM, num_iterations)))
        errors[num_iterations] = float((rebuilt - magnitudes).norm() / magnitudes.norm())
    assert errors[8] < 0.5 * errors[0] and errors[8] < 0.05


def test_phase_of_a_sound_is_free_of_the_others():
    magnitudes = magnitudes_of(SPECTROGRAM.spectra(tones()))
    together = sounds_of_magnitudes(magnitudes, SPECTROGRAM)
    torch.testing.assert_close(together[1:], sounds_of_magnitudes(magnitudes[1:], SPECTROGRAM), atol=1e-3, rtol=0)


def test_silence_stays_silent():
    assert float(sounds_of_magnitudes(torch.zeros(1, 8, 513), SPECTROGRAM).abs().max()) < 1e-4


def test_mel_filters_cover_every_band_and_rise_with_frequency():
    filters = mel_filters(64, 513, RATE)
    assert filters.shape == (64, 513) and (filters >= 0).all()
    assert (filters.amax(1) >= 0.5).all()
    peaks = filters.argmax(1)
    assert (peaks.diff() > 0).all()


def test_distances_are_zero_for_equal_and_grow_with_difference():
    sounds = tones()
    noisy = sounds + 0.01 * torch.randn_like(sounds)
    noisier = sounds + 0.1 * torch.randn_like(sounds)
    for distance in (losses.multi_resolution_loss, losses.wave_loss, lambda a, b: losses.log_mel_distance(a, b, RATE)):
        assert float(distance(sounds, sounds)) == 0
        assert 0 < float(distance(noisy, sounds)) < float(distance(noisier, sounds))


@pytest.mark.parametrize("kind", ["l2", "cosine"])
def test_distillation_pulls_to_the_teacher(kind):
    taught = torch.randn(2, 3, 8)
    assert float(losses.distillation_loss(taught, taught, kind)) == pytest.approx(0, abs=1e-6)
    assert float(losses.distillation_loss(-taught, taught, kind)) > 1


def test_commitment_moves_only_the_encoder():
    latents, quantized = torch.randn(1, 2, 3, requires_grad=True), torch.randn(1, 2, 3, requires_grad=True)
    losses.commitment_loss(latents, quantized).backward()
    assert latents.grad is not None and quantized.grad is None


def test_autoencoder_shapes_and_normalised_latents():
    autoencoder = WaveformAutoencoder(SPECTROGRAM, steps_per_frame=4, latent_dim=8, dim=16, frame_dim=24, num_blocks=1)
    compressed = SPECTROGRAM.compressed(tones())               # 5 codec frames
    latents = autoencoder.encode(compressed)
    assert latents.shape == (2, 5, 8)
    torch.testing.assert_close(latents.mean(-1), torch.zeros(2, 5), atol=1e-5, rtol=0)
    torch.testing.assert_close(latents.var(-1, correction=0), torch.ones(2, 5), atol=1e-2, rtol=0)
    assert autoencoder.decode(latents).shape == compressed.shape
    sounds = autoencoder.sounds(latents, num_iterations=2)
    assert sounds.shape == (2, 6400) and float(sounds.abs().max()) <= 1
