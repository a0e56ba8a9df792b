"""Sounds: one channel, one rate, one length at most."""

import io

import numpy as np
import pytest
import soundfile
from make_media import sound_bytes

from ernie5.data_pipelines.decode_audio import average, decode_audio
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits

LIMITS = MediaLimits()


def peak_hz(samples, rate_hz=16000):
    return np.abs(np.fft.rfft(samples.numpy())).argmax() * rate_hz / len(samples)


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "PCM_16"), ("WAV", "PCM_U8"), ("WAV", "PCM_24"), ("WAV", "FLOAT"),
                                               ("FLAC", None), ("OGG", "VORBIS"), ("MP3", None)])
def test_formats(kind, subtype):
    samples = decode_audio(sound_bytes(kind, 1.0, subtype=subtype), LIMITS)
    assert samples.ndim == 1 and str(samples.dtype) == "torch.float32" and abs(len(samples) - 16000) <= 640
    assert abs(peak_hz(samples) - 440) < 5
    assert abs(float(samples.square().mean().sqrt()) - 0.5 / 2**0.5) < 0.02


@pytest.mark.parametrize(("kind", "rate_hz"), [("WAV", 44100), ("MP3", 44100), ("FLAC", 48000), ("WAV", 8000), ("OGG", 22050)])
def test_stereo_of_another_rate(kind, rate_hz):
    samples = decode_audio(sound_bytes(kind, 1.0, rate_hz, channels=2), LIMITS)
    assert abs(len(samples) - 16000) <= 1000
    assert abs(peak_hz(samples) - 440) < 5
    assert abs(float(samples[2000:-2000].abs().max()) - 0.25) < 0.02  # the mean of the sine and of silence


def test_cut_is_the_start_of_the_whole():
    data = sound_bytes("WAV", 2.0, 44100)
    short, whole = decode_audio(data, LIMITS), decode_audio(data, MediaLimits(audio_seconds=2.0))
    assert len(short) == 16640 and len(whole) == 32000
    assert (short - whole[:16640]).abs().max() < 1e-4


def test_high_frequencies_do_not_fold_back():
    samples = decode_audio(sound_bytes("WAV", 1.0, 44100, frequency_hz=12000), LIMITS)
    assert samples[100:-100].abs().max() < 0.01


def test_caps():
    with pytest.raises(BadMedia, match="3 s by its header, more than max_seconds = 2"):
        decode_audio(sound_bytes("FLAC", 3.0), MediaLimits(max_seconds=2))
    with pytest.raises(BadMedia, match="2 channels, more than max_channels = 1"):
        decode_audio(sound_bytes(channels=2), MediaLimits(max_channels=1))
    with pytest.raises(BadMedia, match="bytes, more than max_bytes = 100"):
        decode_audio(sound_bytes(), MediaLimits(max_bytes=100))


def test_float_files_that_are_no_sound():
    import io

    import soundfile
    for samples in (np.full(1000, np.nan), np.full(1000, 20000.0)):
        file = io.BytesIO()
        soundfile.write(file, samples, 16000, format="WAV", subtype="FLOAT")
        with pytest.raises(BadMedia, match="outside"):
            decode_audio(file.getvalue(), LIMITS)


@pytest.mark.parametrize("channels", [1, 2, 3, 8])
def test_average_is_the_mean_bit_for_bit(channels):
    samples = np.random.default_rng(channels).standard_normal((5000, channels), dtype=np.float32)
    assert np.array_equal(average(samples), samples.mean(axis=1))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 5.0, -5.0])
def test_one_bad_sample_refuses_a_sound(bad):
    wave = np.full(4000, 0.1, np.float32)
    wave[1234] = bad
    file = io.BytesIO()
    soundfile.write(file, wave, 16000, format="WAV", subtype="FLOAT")
    with pytest.raises(BadMedia, match="far outside"):
        decode_audio(file.getvalue(), LIMITS)
