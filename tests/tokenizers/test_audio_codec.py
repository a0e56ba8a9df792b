"""The audio tokenizer as a whole: its contract, its files, and a short training that improves it."""

import dataclasses
import json

import pytest
import torch

from ernie5.sequence import Modality
from ernie5.tokenizers.audio import losses
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.audio.train import AudioCodecTraining, train_audio_codec
from ernie5.tokenizers.base import Tokenizer

SMALL = AudioCodecConfig(num_codebooks=2, codebook_size=16, latent_dim=4, dim=16, frame_dim=24, phase_iterations=2)
SHORT = AudioCodecTraining(num_steps=60, batch_size=8, crop_frames=4, warmup_steps=5, kmeans_latents=200)


def tones(count: int = 12) -> list[torch.Tensor]:
    """Tones of 0.2-0.4 s at several pitches, each with a pause."""
    sounds = []
    for i in range(count):
        time_s = torch.arange(3200 + 320 * i) / 16_000
        sounds.append(0.5 * torch.sin(2 * torch.pi * 220 * (1 + i % 4) * time_s) * (time_s > 0.02 * (i % 5)))
    return sounds


@pytest.fixture(scope="module")
def trained() -> AudioCodec:
    return train_audio_codec(SMALL, tones(), seed=1, training=SHORT)


def test_codec_is_a_tokenizer_with_units(trained):
    assert isinstance(trained, Tokenizer) and trained.modality is Modality.AUDIO
    assert (trained.num_codebooks, trained.codebook_size) == (2, 16)
    assert (trained.sample_rate_hz, trained.frame_rate_hz) == (16_000, 12.5)


@pytest.mark.parametrize("num_samples, num_frames", [(0, 0), (1, 1), (1280, 1), (1281, 2), (5000, 4)])
def test_frames_are_samples_over_hop_rounded_up(trained, num_samples, num_frames):
    codes = trained.encode(torch.randn(num_samples))
    assert codes.shape == (num_frames, 2) and codes.dtype == torch.int64
    sound = trained.decode(codes)
    assert sound.shape == (num_frames * 1280,) and sound.dtype == torch.float32
    assert torch.isfinite(sound).all() and (sound.abs() <= 1).all()


def test_encoding_and_decoding_are_deterministic(trained):
    sound = tones()[3]
    assert torch.equal(trained.encode(sound), trained.encode(sound))
    assert torch.equal(trained.decode(trained.encode(sound)), trained.decode(trained.encode(sound)))


def test_wrong_media_are_refused(trained):
    with pytest.raises(ValueError, match="must be float n"):
        trained.encode(torch.zeros(2, 1280))
    with pytest.raises(ValueError, match="must be float n"):
        trained.encode(torch.zeros(1280, dtype=torch.int16))
    with pytest.raises(ValueError, match="must be integers f 2"):
        trained.decode(torch.zeros(4, 3, dtype=torch.int64))
    with pytest.raises(ValueError, match="must be in 0..15"):
        trained.decode(torch.tensor([[0, 16]]))


def test_training_brings_the_sound_closer_and_uses_the_codes(trained):
    untrained = train_audio_codec(SMALL, tones(), seed=1, training=dataclasses.replace(SHORT, num_steps=2))
    sounds = [sound[:2560] for sound in tones()]

    def distance(codec: AudioCodec) -> float:
        decoded = torch.stack([codec.decode(codec.encode(sound)) for sound in sounds])
        return float(losses.log_mel_distance(decoded, torch.stack(sounds), 16_000))

    assert distance(trained) < 0.75 * distance(untrained)
    codes = torch.cat([trained.encode(sound) for sound in tones()])
    assert min(len(codes[:, q].unique()) for q in range(2)) >= 8


def test_the_same_seed_gives_the_same_codec_whatever_was_drawn_before():
    short = dataclasses.replace(SHORT, num_steps=8)
    one = train_audio_codec(SMALL, tones(), seed=1, training=short)
    torch.manual_seed(12345)
    state = torch.get_rng_state()
    again = train_audio_codec(SMALL, tones(), seed=1, training=short)
    assert torch.equal(torch.get_rng_state(), state)
    assert again.fingerprint == one.fingerprint
    assert train_audio_codec(SMALL, tones(), seed=2, training=short).fingerprint != one.fingerprint


def test_saved_codec_is_the_same_codec(trained, tmp_path):
    trained.save(tmp_path / "codec")
    loaded = AudioCodec.load(tmp_path / "codec")
    assert loaded.fingerprint == trained.fingerprint and loaded.config == trained.config and not loaded.training
    codes = trained.encode(tones()[5])
    assert torch.equal(loaded.encode(tones()[5]), codes)
    assert torch.equal(loaded.decode(codes), trained.decode(codes))
    assert sorted(p.name for p in (tmp_path / "codec").iterdir()) == ["config.json", "weights.safetensors"]


def test_files_that_do_not_belong_together_are_refused(trained, tmp_path):
    with pytest.raises(ValueError, match="must hold config.json"):
        AudioCodec.load(tmp_path)
    trained.save(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"dim": 32}))
    with pytest.raises(ValueError, match="does not fit"):
        AudioCodec.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config | {"colour": 1}))
    with pytest.raises(ValueError, match="other keys than this version: colour"):
        AudioCodec.load(tmp_path)


def test_fingerprint_follows_every_weight(trained, tmp_path):
    trained.save(tmp_path)
    other = AudioCodec.load(tmp_path)
    other.quantizer.codebooks[0, 0, 0] += 1e-3
    assert other.fingerprint != trained.fingerprint


@pytest.mark.parametrize("change", [{"distance": "cosine"}, {"teacher": "none"}, {"multi_resolution_weight": 0.1, "wave_weight": 0.1}])
def test_every_loss_trains(change):
    training = dataclasses.replace(SHORT, num_steps=6, **change)
    codec = train_audio_codec(SMALL, tones(4), seed=0, training=training)
    plain = train_audio_codec(SMALL, tones(4), seed=0, training=dataclasses.replace(SHORT, num_steps=6))
    assert codec.fingerprint != plain.fingerprint
    assert all(torch.isfinite(p).all() for p in codec.parameters())


@pytest.mark.parametrize("change, message", [
    ({"num_codebooks": 0}, "num_codebooks = 0 must be at least 1"),
    ({"steps_per_frame": 7}, "must divide hop_samples"),
    ({"fft_size": 512}, "at least twice"),
    ({"floor": 0.0}, "must be above 0"),
    ({"num_blocks": -1}, "must not be negative"),
])
def test_impossible_configurations_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AudioCodecConfig(**change)


@pytest.mark.parametrize("change, message", [
    ({"num_steps": 0}, "num_steps = 0 must be at least 1"),
    ({"warm_share": 1.0}, "warm_share = 1.0"),
    ({"distance": "l1"}, "must be one of l2, cosine"),
])
def test_impossible_trainings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AudioCodecTraining(**change)


@pytest.mark.parametrize("sounds, message", [
    ([], "sounds is empty"),
    ([torch.zeros(100), torch.zeros(2, 100)], r"sounds\[1\]"),
    ([torch.zeros(0)], r"sounds\[0\]"),
])
def test_unfit_sounds_are_refused(sounds, message):
    with pytest.raises(ValueError, match=message):
        train_audio_codec(SMALL, sounds, seed=0, training=SHORT)


def test_the_codebooks_are_trained_even_in_the_shortest_run():
    codec = train_audio_codec(SMALL, tones(4), seed=0, training=dataclasses.replace(SHORT, num_steps=1, warm_share=0.99))
    assert float(codec.quantizer.codebooks.abs().max()) > 0
