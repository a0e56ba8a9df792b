"""The causal codec: the tokenizer contract at 16 and 24 kHz, streams equal to the whole at every chunk size, and no look ahead."""

import dataclasses
import json

import pytest
import torch

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_config import CausalCodecConfig, CausalNetworkConfig
from ernie5.tokenizers.audio.causal_spectrogram import CausalSpectrogram
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.audio.own import OwnAudioCodec
from ernie5.tokenizers.base import Tokenizer

CONVOLUTIONS = CausalNetworkConfig(steps_per_frame=4, fft_size=960, latent_dim=8, dim=16, frame_dim=24, step_blocks=2)
ATTENTION = dataclasses.replace(CONVOLUTIONS, step_layers=1, step_window=7, frame_layers=1, frame_window=3, head_dim=8, phase_in=True,
                                phase="learned")
AT_16 = CausalCodecConfig(num_codebooks=3, codebook_size=16, network=CONVOLUTIONS)
AT_24 = CausalCodecConfig(3, 16, 24_000, 1920, dataclasses.replace(ATTENTION, fft_size=1920))


def codec_of(config: CausalCodecConfig) -> CausalCodec:
    torch.manual_seed(1)
    codec = CausalCodec(config).eval()
    codec.quantizer.codebooks.normal_(0, 0.6)
    for parameter in codec.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, std=0.1)
    return codec


@pytest.fixture(params=[AT_16, AT_24], ids=["convolutions at 16 kHz", "attention at 24 kHz"])
def codec(request) -> CausalCodec:
    return codec_of(request.param)


def noise(num_samples: int) -> torch.Tensor:
    return 0.1 * torch.randn(num_samples, generator=torch.Generator().manual_seed(num_samples))


def test_codec_is_a_tokenizer_with_units(codec):
    assert isinstance(codec, Tokenizer) and codec.modality is Modality.AUDIO
    assert (codec.num_codebooks, codec.codebook_size, codec.frame_rate_hz) == (3, 16, 12.5)


@pytest.mark.parametrize("extra, num_frames", [(None, 0), (-1, 1), (0, 1), (1, 2)])
def test_frames_are_samples_over_hop_rounded_up(codec, extra, num_frames):
    hop = codec.config.hop_samples
    codes = codec.encode(noise(0 if extra is None else hop + extra))
    assert codes.shape == (num_frames, 3) and codes.dtype == torch.int64
    sound = codec.decode(codes)
    assert sound.shape == (num_frames * hop,) and sound.dtype == torch.float32
    assert torch.isfinite(sound).all() and (sound.abs() <= 1).all()


@pytest.mark.parametrize("size", [1, 7, 160, 1279, 1280, 1281, 5000])
def test_a_streamed_sound_has_the_codes_of_the_whole(codec, size):
    sound = noise(2600 if size == 1 else 9 * codec.config.hop_samples + 77)
    stream = codec.stream_encoder()
    latents = torch.cat([stream.push_latents(piece) for piece in sound.split(size)])
    whole = sound[:len(sound) // codec.config.hop_samples * codec.config.hop_samples]
    torch.testing.assert_close(latents, codec.latents(whole[None])[0][0], atol=1e-5, rtol=0)
    stream = codec.stream_encoder()
    codes = torch.cat([*(stream.push(piece) for piece in sound.split(size)), stream.flush()])
    assert torch.equal(codes, codec.encode(sound))
    assert torch.equal(stream.push(sound), codec.encode(whole))  # a flushed stream begins anew


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20])
def test_streamed_codes_give_the_sound_of_the_whole(codec, size):
    codes = torch.randint(0, 16, (11, 3), generator=torch.Generator().manual_seed(0))
    stream = codec.stream_decoder()
    pieces = [stream.push(piece) for piece in codes.split(size)]
    assert len(pieces[0]) == min(size, 11) * codec.config.hop_samples - codec.config.latency_samples
    sound = torch.cat([*pieces, stream.flush()])
    torch.testing.assert_close(sound, codec.decode(codes), atol=1e-5, rtol=0)
    assert not len(stream.flush()) and not len(stream.push(codes[:0]))


def test_codes_do_not_know_what_comes_later(codec):
    hop = codec.config.hop_samples
    sound = noise(8 * hop)
    for frame in (1, 4, 7):
        other = sound.clone()
        other[frame * hop:] = noise(8 * hop + 1)[:(8 - frame) * hop]
        assert torch.equal(codec.latents(sound[None])[0][:, :frame], codec.latents(other[None])[0][:, :frame])
        assert torch.equal(codec.encode(sound)[:frame], codec.encode(other)[:frame])
        assert not torch.equal(codec.latents(sound[None])[0][:, frame:], codec.latents(other[None])[0][:, frame:])


def test_sounds_do_not_know_later_codes_beyond_the_stated_latency(codec):
    codes = torch.randint(0, 16, (8, 3), generator=torch.Generator().manual_seed(0))
    other = codes.clone()
    other[5:] = (other[5:] + 1) % 16
    one, two = codec.decode(codes), codec.decode(other)
    first = 5 * codec.config.hop_samples - codec.config.latency_samples
    assert torch.equal(one[:first], two[:first])
    assert not torch.equal(one[first:first + codec.config.latency_samples], two[first:first + codec.config.latency_samples])


def test_the_first_levels_can_be_decoded_alone(codec):
    codes = codec.encode(noise(4000))
    vectors = codec.quantizer.codebooks
    for q in (1, 2):
        sound = codec.decode(codes[:, :q])
        values = sum(vectors[i][codes[:, i]] for i in range(q))
        samples, past = codec.sounds(values[None])
        expected = torch.cat([samples[0, codec.config.latency_samples:], codec.spectrogram.last(past[-1][-1])[0]])
        torch.testing.assert_close(sound, expected.clamp(-1, 1))


@pytest.mark.parametrize("fft_size, hop", [(960, 320), (640, 160), (1440, 480)])
def test_the_inverse_transform_gives_back_the_sound(fft_size, hop):
    spectrogram = CausalSpectrogram(fft_size, hop, 0.1)
    sound = noise(12 * hop)[None]
    spectra, _ = spectrogram.spectra(sound, None)
    complete, rest = spectrogram.sounds(spectra, None)
    assert spectra.shape == (1, 12, fft_size // 2 + 1)
    again = torch.cat([complete[:, spectrogram.latency:], spectrogram.last(rest)], 1)
    sure = 10 * hop  # the very end has too little weight
    torch.testing.assert_close(again[:, :sure], sound[:, :sure], atol=1e-5, rtol=0)
    assert (again.abs() <= sound.abs() + 1e-5).all()


def test_wrong_media_are_refused(codec):
    with pytest.raises(ValueError, match="must be float n"):
        codec.encode(torch.zeros(2, 1280))
    with pytest.raises(ValueError, match="must be float n"):
        codec.encode(torch.zeros(1280, dtype=torch.int16))
    with pytest.raises(ValueError, match="must be integers f 3"):
        codec.decode(torch.zeros(4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="must be in 0..15"):
        codec.decode(torch.tensor([[0, 16, 0]]))


def test_saved_codec_is_the_same_codec(codec, tmp_path):
    codec.save(tmp_path)
    loaded = OwnAudioCodec.load(tmp_path)
    assert isinstance(loaded, CausalCodec) and loaded.config == codec.config and not loaded.training
    assert loaded.fingerprint == codec.fingerprint
    assert torch.equal(loaded.encode(noise(3000)), codec.encode(noise(3000)))
    loaded.quantizer.codebooks[0, 0, 0] += 1e-3
    assert loaded.fingerprint != codec.fingerprint


def test_files_tell_which_codec_they_are(tmp_path):
    AudioCodec(AudioCodecConfig()).save(tmp_path / "spectral")
    assert isinstance(OwnAudioCodec.load(tmp_path / "spectral"), AudioCodec)
    codec_of(AT_16).save(tmp_path / "causal")
    with pytest.raises(ValueError, match="other keys than this version"):
        AudioCodec.load(tmp_path / "causal")
    config = json.loads((tmp_path / "causal" / "config.json").read_text())
    config["network"]["colour"] = 1
    (tmp_path / "causal" / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="in network than this version: colour"):
        OwnAudioCodec.load(tmp_path / "causal")
    with pytest.raises(ValueError, match="must hold config.json"):
        OwnAudioCodec.load(tmp_path)


@pytest.mark.parametrize("change, message", [
    ({"num_codebooks": 0}, "num_codebooks = 0 must be at least 1"),
    ({"hop_samples": 1278}, "must divide hop_samples"),
    ({"network": dataclasses.replace(CONVOLUTIONS, fft_size=500)}, "fft_size = 500 must be even and a multiple"),
    ({"network": dataclasses.replace(CONVOLUTIONS, fft_size=1920)}, "fft_size = 1920 must be at most"),
])
def test_impossible_codecs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(AT_16, **change)


@pytest.mark.parametrize("change, message", [
    ({"dim": 0}, "dim = 0 must be at least 1"),
    ({"step_blocks": -1}, "step_blocks = -1 must not be negative"),
    ({"frame_layers": 1, "head_dim": 7}, "head_dim = 7 must divide frame_dim = 24"),
    ({"floor": 0.0}, "floor = 0.0 must be above 0"),
])
def test_impossible_networks_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONVOLUTIONS, **change)
