"""Other people's codecs behind the contract: tiny random Mimi, EnCodec and DAC models."""

import importlib.util
import json

import pytest
import torch

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.transformers_codec import TransformersCodec
from ernie5.tokenizers.base import Tokenizer

installed = importlib.util.find_spec("transformers") is not None
needs_transformers = pytest.mark.skipif(not installed, reason="transformers is not installed")


def tiny(kind: str):
    from transformers import DacConfig, DacModel, EncodecConfig, EncodecModel, MimiConfig, MimiModel

    torch.manual_seed(0)
    match kind:
        case "mimi":
            model = MimiModel(MimiConfig(
                hidden_size=16, num_filters=4, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8,
                intermediate_size=16, codebook_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8, num_quantizers=4,
                upsample_groups=16, sliding_window=8))
        case "encodec":
            model = EncodecModel(EncodecConfig(hidden_size=8, num_filters=4, num_lstm_layers=1, codebook_size=16, codebook_dim=8,
                                               target_bandwidths=[0.3, 1.2]))
        case "dac":
            model = DacModel(DacConfig(encoder_hidden_size=4, decoder_hidden_size=64, hidden_size=64, codebook_size=16, codebook_dim=4,
                                       n_codebooks=4))
    for name, buffer in model.named_buffers():  # empty codebooks would give one code only
        if "embed" in name and buffer.is_floating_point():
            buffer.normal_()
    return model


@needs_transformers
@pytest.mark.parametrize("kind, hop, rate_hz", [("mimi", 1920, 24_000), ("encodec", 320, 24_000), ("dac", 512, 16_000)])
def test_a_codec_of_transformers_is_an_audio_tokenizer(kind, hop, rate_hz, tmp_path):
    tiny(kind).save_pretrained(tmp_path / "model")
    whole = TransformersCodec.load(tmp_path / "model")
    assert isinstance(whole, Tokenizer) and whole.modality is Modality.AUDIO
    assert (whole.num_codebooks, whole.codebook_size, whole.sample_rate_hz, whole.frame_rate_hz) == (4, 16, rate_hz, rate_hz / hop)
    sound = 0.3 * torch.sin(torch.arange(3 * hop + 7) * 0.05)
    codes = whole.encode(sound)
    assert codes.shape == (4, 4) and codes.dtype == torch.int64 and len(codes.unique()) > 1
    decoded = whole.decode(codes)
    assert decoded.shape == (4 * hop,) and torch.isfinite(decoded).all()
    assert whole.encode(torch.empty(0)).shape == (0, 4) and whole.decode(torch.empty(0, 4, dtype=torch.int64)).shape == (0,)

    (tmp_path / "model" / "ernie5_codec.json").write_text(json.dumps({"num_codebooks": 2}))
    bound = TransformersCodec.load(tmp_path / "model")
    assert bound.num_codebooks == 2 and bound.fingerprint != whole.fingerprint
    assert torch.equal(bound.encode(sound), codes[:, :2])
    assert torch.equal(bound.decode(codes[:, :2]), whole.decode(codes[:, :2]))
    bound.save(tmp_path / "again")
    again = TransformersCodec.load(tmp_path / "again")
    assert again.fingerprint == bound.fingerprint and torch.equal(again.encode(sound), codes[:, :2])


@needs_transformers
def test_codecs_that_codes_alone_cannot_carry_are_refused(tmp_path):
    from transformers import EncodecConfig, EncodecModel

    model = EncodecModel(EncodecConfig(hidden_size=8, num_filters=4, num_lstm_layers=1, codebook_size=16, codebook_dim=8, audio_channels=2))
    with pytest.raises(ValueError, match="use a mono one"):
        TransformersCodec(model)
    with pytest.raises(ValueError, match="num_codebooks = 9 must be from 1 to 4"):
        TransformersCodec(tiny("dac"), 9)
    with pytest.raises(ValueError, match="must be integers f 4"):
        TransformersCodec(tiny("dac")).decode(torch.zeros(3, 5, dtype=torch.int64))


def test_folders_of_something_else_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must hold config.json and model.safetensors"):
        TransformersCodec.load(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match="model_type = 'bert' must be one of mimi, encodec, dac"):
        TransformersCodec.load(tmp_path)


@pytest.mark.skipif(installed, reason="transformers is installed")
def test_without_transformers_it_says_what_to_install(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "mimi"}))
    with pytest.raises(ValueError, match="pip install transformers"):
        TransformersCodec.load(tmp_path)
