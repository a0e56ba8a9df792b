"""Clips encoded and decoded piece by piece give what the whole gives, for every network that the settings can make."""

import pytest
import torch

from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer, to_uint8

KINDS = {
    "plain": AutoencoderConfig((8, 8, 16), (0, 1, 1), 6),
    "all": AutoencoderConfig((8, 16, 32), (0, 0, 2), 6, norm="cell", shortcuts=True, attention=2),
    "stride2": AutoencoderConfig((8, 8), (0, 1), 6, temporal_stride=2, time_kernel=4, stem=4),
}


@pytest.fixture(scope="module", params=KINDS, ids=KINDS)
def tokenizer(request) -> VisionGenerationTokenizer:
    torch.manual_seed(0)
    tokenizer = VisionGenerationTokenizer(GenerationTokenizerConfig(KINDS[request.param], 4))
    torch.nn.init.normal_(tokenizer.autoencoder.to_latent.bias)
    tokenizer.autoencoder.train()
    with torch.no_grad():
        for seed in range(4):
            clip = media(5, seed).float()[None] / 127.5 - 1
            tokenizer.quantizer.quantize(tokenizer.autoencoder.encode(clip)[0])
    tokenizer.autoencoder.eval()
    return tokenizer


def media(t: int, seed: int = 9, h: int = 16, w: int = 24) -> torch.Tensor:
    return torch.randint(0, 256, (t, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed))


def pieces(x: torch.Tensor, size: int) -> list[torch.Tensor]:
    return list(x.split(size))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 13])
def test_encoding_in_pieces_is_the_offline_encoding(tokenizer, size):
    clip = media(13)
    whole, parts = tokenizer.encode(clip), list(tokenizer.encode_chunks(pieces(clip, size)))
    latent = torch.cat([part.latent for part in parts])
    torch.testing.assert_close(latent, whole.latent, rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.cat([part.features for part in parts]), whole.features, rtol=0, atol=1e-5)
    for ours, theirs in zip(tokenizer.quantizer.encode(latent).bits, tokenizer.quantizer.encode(whole.latent).bits, strict=True):
        assert (ours != theirs).float().mean() < 0.01  # only where a residual lies at its threshold
    assert size > 1 or len(parts) == len(whole.latent)  # each as soon as its frames are there


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@torch.no_grad()
def test_decoding_in_pieces_is_the_offline_decoding(tokenizer, size):
    total = tokenizer.quantizer.encode(tokenizer.encode(media(13)).latent).total
    stream_pixels = list(tokenizer.decode_chunks(pieces(total, size)))
    whole = tokenizer.autoencoder.decode(total[None])[0]
    got = torch.cat(stream_pixels)
    assert got.shape == whole.shape == media(13).shape
    difference = (got.int() - to_uint8(whole).int()).abs()
    assert difference.max() <= 1 and (difference > 0).float().mean() < 1e-3  # float pixels differ by 1e-5; rounding may fall on either side


@torch.no_grad()
def test_pixels_of_pieces_agree_before_rounding(tokenizer):
    from ernie5.tokenizers.vision.causal_autoencoder import unfold
    from ernie5.tokenizers.vision.chunks import CausalStream

    total = tokenizer.quantizer.encode(tokenizer.encode(media(13)).latent).total
    stream = CausalStream(tokenizer.autoencoder.decoder)
    got = torch.cat([unfold(stream(piece[None]), tokenizer.config.autoencoder.stem)[0] for piece in pieces(total, 1)])
    torch.testing.assert_close(got, tokenizer.autoencoder.decode(total[None])[0], rtol=0, atol=1e-5)


def test_bits_are_equal_wherever_the_residual_is_not_at_its_threshold(tokenizer):
    """Given the same history, pieces and the whole differ only in bits whose residual is within 1e-4 of the threshold."""
    from ernie5.tokenizers.vision.multiscale_residual import down

    clip, quantizer = media(13), tokenizer.quantizer
    whole = tokenizer.encode(clip).latent
    parts = torch.cat([part.latent for part in tokenizer.encode_chunks(pieces(clip, 3))])
    total = torch.zeros_like(whole)
    for scale, cells in enumerate(quantizer.scales(*whole.shape[-2:])):
        ours, theirs = (down(latent - total, cells) for latent in (parts, whole))
        differ = quantizer.levels.bit(ours, scale) != quantizer.levels.bit(theirs, scale)
        margin = (theirs - quantizer.levels.mean[scale][:, None, None]).abs()
        assert not (differ & (margin > 1e-4)).any()
        total = quantizer.add(total, quantizer.levels.bit(theirs, scale).flatten(2).mT, scale)


def test_codes_of_a_frame_do_not_change_when_later_frames_do(tokenizer):
    clip, stride = media(13), tokenizer.temporal_stride
    other = clip.clone()
    other[1 + 2 * stride:] = 255 - other[1 + 2 * stride:]
    before, after = tokenizer.encode(clip).latent[:3], tokenizer.encode(other).latent[:3]
    assert torch.equal(before, after)
    streams = [next(tokenizer.encode_chunks([c[:1], c[1:]])).latent for c in (clip, other)]
    assert torch.equal(*streams)


def test_an_image_is_a_clip_of_one_frame(tokenizer):
    image = media(1)
    [codes] = tokenizer.encode_chunks([image[0]])
    torch.testing.assert_close(codes.latent, tokenizer.encode(image).latent, rtol=0, atol=1e-5)
    [decoded] = tokenizer.decode_chunks([codes.latent])
    assert decoded.shape == image.shape


def test_what_is_kept_between_pieces_does_not_grow(tokenizer):
    from ernie5.tokenizers.vision.chunks import CausalStream

    stream, sizes = CausalStream(tokenizer.autoencoder.decoder), []
    with torch.no_grad():
        for seed in range(5):
            stream(torch.randn(1, 2, 6, 2, 3, generator=torch.Generator().manual_seed(seed)))
            sizes.append(sum(kept.untyped_storage().nbytes() for kept in stream._kept.values()))
    assert len(set(sizes)) == 1 and sizes[0] > 0


def test_clips_that_end_early_or_change_size_are_named(tokenizer):
    stride = tokenizer.temporal_stride
    with pytest.raises(ValueError, match=f"has {1 + stride + 1} frames, which must be 1 \\+ a multiple"):
        list(tokenizer.encode_chunks([media(2 + stride)]))
    with pytest.raises(ValueError, match="has 0 frames"):
        list(tokenizer.encode_chunks([]))
    with pytest.raises(ValueError, match="a clip has one size"):
        list(tokenizer.encode_chunks([media(1), media(1), media(1, h=8)]))
    with pytest.raises(ValueError, match="multiples of the stride"):
        list(tokenizer.encode_chunks([media(1, h=18, w=18)[:, :, :17]]))
