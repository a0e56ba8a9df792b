"""Teachers of level 1: shapes, sense, and clear errors."""

import importlib.util

import pytest
import torch

from ernie5.tokenizers.audio.codec import AudioCodecConfig
from ernie5.tokenizers.audio.teacher import LogMelTeacher, WhisperTeacher
from ernie5.tokenizers.audio.train import AudioCodecTraining, build_teacher


def test_logmel_gives_one_vector_per_codec_frame():
    teacher = LogMelTeacher(dim=32)
    features = teacher.features(0.1 * torch.randn(2, 3 * 1280))
    assert features.shape == (2, 3, 32)


def test_logmel_tells_low_from_high_and_loud_from_silent():
    time_s = torch.arange(3 * 1280) / 16_000
    low, high = (0.5 * torch.sin(2 * torch.pi * hz * time_s) for hz in (220, 2000))
    features = LogMelTeacher(dim=32).features(torch.stack([low, high, torch.zeros_like(low)]))[:, 1]   # n 32
    assert features[0].argmax() < features[1].argmax()
    assert features[2].abs().max() < 1e-3 < features[0].max()


def test_teachers_are_chosen_by_name():
    config = AudioCodecConfig()
    assert build_teacher(config, AudioCodecTraining(teacher="none")) is None
    assert isinstance(build_teacher(config, AudioCodecTraining()), LogMelTeacher)
    with pytest.raises(ValueError, match="must be one of logmel, whisper, none"):
        AudioCodecTraining(teacher="hubert")


def test_logmel_wants_a_divisible_hop():
    with pytest.raises(ValueError, match="multiple of 4"):
        LogMelTeacher(hop_samples=1281)


def test_whisper_wants_its_rate_and_an_existing_folder(tmp_path):
    with pytest.raises(ValueError, match="16000 and 1280"):
        WhisperTeacher(tmp_path, sample_rate_hz=24_000)
    with pytest.raises(ValueError, match="must be a folder with a Whisper model"):
        WhisperTeacher(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is not None, reason="transformers is installed")
def test_whisper_without_transformers_says_what_to_install(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="pip install transformers"):
        WhisperTeacher(tmp_path)


@pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="transformers is not installed")
def test_whisper_gives_one_vector_per_codec_frame(tmp_path):
    from transformers import WhisperConfig, WhisperFeatureExtractor, WhisperModel

    config = WhisperConfig(d_model=16, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
                           encoder_ffn_dim=16, decoder_ffn_dim=16, vocab_size=60, pad_token_id=0, bos_token_id=0, eos_token_id=0,
                           decoder_start_token_id=0)
    WhisperModel(config).save_pretrained(tmp_path)
    WhisperFeatureExtractor().save_pretrained(tmp_path)
    teacher = WhisperTeacher(tmp_path)
    sounds = 0.1 * torch.randn(2, 5 * 1280)
    features = teacher.features(sounds)
    assert features.shape == (2, 5, teacher.dim) and features.dtype == torch.float32
    torch.testing.assert_close(features[1:], teacher.features(sounds[1:]), atol=1e-4, rtol=1e-4)
    time_s = torch.arange(5 * 1920) / 24_000
    at_24 = WhisperTeacher(tmp_path, 24_000, 1920).features(0.3 * torch.sin(2 * torch.pi * 440 * time_s)[None])
    at_16 = teacher.features(0.3 * torch.sin(2 * torch.pi * 440 * time_s[:5 * 1280] * 1.5)[None])
    torch.testing.assert_close(at_24[:, :4], at_16[:, :4], atol=0.05, rtol=0.05)  # the end rings
