"""Which audio codec a recipe trains, on which recordings: the causal one reads them whole, of any rate and number of channels."""

import dataclasses
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from ernie5.data_pipelines.decode_audio import decode_audio
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import DataConfig, Recipe, RunConfig
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_config import CausalNetworkConfig
from ernie5.tokenizers.audio.causal_training import CausalTraining
from ernie5.tokenizers.audio.codec import AudioCodecConfig
from ernie5.tokenizers.audio.own import OwnAudioCodec
from ernie5.tokenizers.settings import AudioTokenizerConfig, PartConfig, TokenizersConfig
from ernie5.train.prepare import load_tokenizers, open_training_sources
from ernie5.train.recordings import recordings_of
from ernie5.train.train_tokenizers import prepare


def wav(num_samples: int, rate_hz: int = 16_000, channels: int = 1) -> bytes:
    """A tone whose channels have different loudness."""
    tone = np.sin(np.arange(num_samples) / rate_hz * 2 * np.pi * 300)[:, None] * np.linspace(0.1, 0.4, channels)
    out = io.BytesIO()
    soundfile.write(out, tone, rate_hz, format="WAV", subtype="PCM_16")
    return out.getvalue()


FILES = {"plain": wav(20_000), "eight": wav(9_600, channels=8), "fast": wav(96_000, 192_000), "slow": wav(8_000, 8_000, 2)}


@pytest.fixture
def recipe(tmp_path) -> Recipe:
    with ShardWriter(tmp_path / "sounds", "sounds") as writer:
        for name, data in FILES.items():
            writer.write(name, [Member(Modality.TEXT, "txt", b"a tone"), Member(Modality.AUDIO, "wav", data)], {})
        writer.write("empty", [Member(Modality.AUDIO, "wav", wav(0))], {})
        writer.write("cut", [Member(Modality.AUDIO, "wav", wav(8_000)[:5_000])], {})
        writer.write("words", [Member(Modality.TEXT, "txt", b"no sound")], {})
    with ShardWriter(tmp_path / "texts", "texts") as writer:
        writer.write("a", [Member(Modality.TEXT, "txt", b"no sound at all")], {})
    sources = {name: SourceConfig(str(tmp_path / name)) for name in ("texts", "sounds")}
    audio = AudioTokenizerConfig(
        kind="causal", codec=AudioCodecConfig(num_codebooks=2, codebook_size=8),
        causal=CausalNetworkConfig(steps_per_frame=4, fft_size=960, latent_dim=4, dim=8, frame_dim=16, step_blocks=1),
        causal_training=CausalTraining(num_steps=4, batch_size=2, crop_frames=2, kmeans_latents=16, device="cpu"))
    data = DataConfig(sources=sources, heldout={})
    return Recipe(run=RunConfig(dir=str(tmp_path / "run")), data=data, tokenizers=TokenizersConfig(audio=audio))


def test_recordings_of_any_rate_and_channels_are_read_whole(recipe, tmp_path):
    corpus = open_training_sources(recipe, Quarantine(tmp_path / "quarantine.jsonl", 0.5))
    recordings = recordings_of(corpus, 16_000, 10**6)
    assert recordings.count == 7  # the source of texts is left out
    lengths = [[len(sound) for sound in recordings[place]] for place in range(recordings.count)]
    assert lengths == [[20_000], [9_600], [8_000], [16_000], [], [], []]
    assert all(sound.dtype == torch.float32 for place in range(4) for sound in recordings[place])
    alone = dataclasses.replace(corpus, sources={"texts": corpus.sources["texts"]})
    assert recordings_of(alone, 16_000, 10**6) is None


def test_a_recipe_trains_the_kind_that_it_names(recipe):
    folder = RunFolder(Path(recipe.run.folder))
    folder.create()
    prepare(recipe, "audio")
    assert [path.name for path in folder.tokenizers.iterdir()] == ["audio"]
    codec = OwnAudioCodec.load(folder.tokenizers / "audio")
    assert isinstance(codec, CausalCodec) and codec.config == recipe.tokenizers.audio.causal_codec
    for data in FILES.values():
        sound = decode_audio(data, MediaLimits(audio_seconds=9.0), codec.sample_rate_hz)
        codes = codec.encode(sound)
        assert codes.shape == (-(-len(sound) // 1280), 2)
        assert torch.isfinite(codec.decode(codes)).all()


class Nothing:
    """A tokenizer of text or pictures that this test never uses, and of sound at 24 kHz."""

    sample_rate_hz = 24_000

    @staticmethod
    def load(folder: str) -> "Nothing":
        return Nothing()


def test_a_codec_of_another_rate_than_the_recipe_is_refused(recipe):
    parts = {kind: PartConfig(f"{__name__}:Nothing") for kind in ("text", "vision", "audio")}
    own = dataclasses.replace(recipe, tokenizers=dataclasses.replace(recipe.tokenizers, parts=parts))
    with pytest.raises(ValueError, match="sample_rate_hz = 16000 must be that of the audio tokenizer; use 24000"):
        load_tokenizers(own)
    codec = dataclasses.replace(recipe.tokenizers.audio.codec, sample_rate_hz=24_000)
    at_24 = dataclasses.replace(own.tokenizers, audio=dataclasses.replace(recipe.tokenizers.audio, codec=codec))
    assert load_tokenizers(dataclasses.replace(own, tokenizers=at_24)).audio.sample_rate_hz == 24_000


def test_sounds_that_cannot_be_are_refused_by_name():
    with pytest.raises(BadMedia, match="holds no samples"):
        decode_audio(wav(0), MediaLimits())
    with pytest.raises(BadMedia, match="9 channels, more than max_channels = 8"):
        decode_audio(wav(100, channels=9), MediaLimits())


def test_the_sizes_of_the_chosen_kind_are_checked(recipe):
    wrong = dataclasses.replace(recipe.tokenizers.audio, causal=CausalNetworkConfig(steps_per_frame=8, fft_size=320))
    bad = dataclasses.replace(recipe, tokenizers=dataclasses.replace(recipe.tokenizers, audio=wrong))
    with pytest.raises(ValueError, match="fft_size = 320"):
        bad.check()
