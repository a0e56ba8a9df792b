"""A nested series of widths: the first bits are the same bits whatever follows, and its decoder shows any width, better with each."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import interpolate

from ernie5.tokenizers.vision.batches import MediaBatches
from ernie5.tokenizers.vision.bit_series import draw_width, first_bits
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import VisionGenerationTokenizer, to_float
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.stage import Stage
from ernie5.tokenizers.vision.train import train_vision_tokenizer

SERIES = (1, 3, 8)
SIZES = VisionTokenizerConfig(channels=(16, 16, 32), blocks=(0, 0, 0), bits=8, warmup_steps=5, image_steps=90, image_batch=16)


def pictures(num: int) -> list[torch.Tensor]:
    """uint8 `1 c h w`: a colour in each corner, and what lies between."""
    corners = torch.rand(num, 3, 2, 2, generator=torch.Generator().manual_seed(num))
    return list((interpolate(corners, size=16, mode="bilinear") * 255).to(torch.uint8)[:, None])


IMAGES = pictures(48)


@pytest.fixture(scope="module")
def tokenizers() -> dict[tuple[int, ...], VisionGenerationTokenizer]:
    """By series; () = a decoder that always reads all bits."""
    return {series: train_vision_tokenizer(replace(SIZES, bit_series=series), IMAGES, [], seed=1) for series in (SERIES, ())}


def error(tokenizer: VisionGenerationTokenizer, width: int) -> float:
    """Mean squared error of the pictures as shown by their first bits."""
    totals = [tokenizer.quantizer.encode(tokenizer.encode(image).latent).total for image in IMAGES]
    shown = [tokenizer.decode(first_bits(total, width)) for total in totals]
    return float(torch.stack([(a.float() - b.float()).square().mean() for a, b in zip(shown, IMAGES, strict=True)]).mean())


@pytest.mark.parametrize("width", SERIES)
def test_the_first_bits_are_the_same_bits_for_any_width(tokenizers, width) -> None:
    """Bits, what a backbone reads and what a decoder gets; with a corrupted history too. And nothing of it is chance: bits differ."""
    tokenizer = tokenizers[SERIES]
    latent = tokenizer.encode(IMAGES[0]).latent
    flips = tuple(torch.rand(1, h * w, 8) < 0.3 for h, w in tokenizer.quantizer.scales(2, 2))
    small = tokenizer.quantizer.prefix(width)
    for given in (None, flips):
        all_bits = tokenizer.quantizer.encode(latent, given)
        few = small.encode(latent[:, :width], None if given is None else tuple(f[..., :width] for f in given))
        assert all(torch.equal(a, b[..., :width]) for a, b in zip(few.bits, all_bits.bits, strict=True))
        sums = ((*few.reads, few.pooled), (*all_bits.reads, all_bits.pooled))  # added up in another order: the last bits may differ
        assert all(torch.allclose(a, b[..., :width], rtol=0, atol=1e-6) for a, b in zip(*sums, strict=True))
        assert torch.allclose(few.total, first_bits(all_bits.total, width)[:, :width], rtol=0, atol=1e-6)
    codes = torch.stack([tokenizer.quantizer.encode(tokenizer.encode(image).latent).bits[-1].flatten() for image in IMAGES])
    assert 0.1 < codes.mean() < 0.9 and len(codes.unique(dim=0)) > 10


def test_each_width_shows_more_and_the_first_ones_much_more_than_untrained(tokenizers) -> None:
    with_series = [error(tokenizers[SERIES], width) for width in SERIES]
    without = [error(tokenizers[()], width) for width in SERIES]
    assert with_series[0] > 1.1 * with_series[1] > 1.1 * 1.1 * with_series[2]
    assert without[0] > 1.2 * with_series[0] and without[1] > 1.2 * with_series[1]


def test_the_width_of_a_step_is_a_function_of_seed_and_step() -> None:
    drawn = [draw_width(SERIES, 0, "images", step) for step in range(300)]
    assert drawn == [draw_width(SERIES, 0, "images", step) for step in range(300)]
    assert drawn != [draw_width(SERIES, 1, "images", step) for step in range(300)]
    assert drawn != [draw_width(SERIES, 0, "clips", step) for step in range(300)]
    assert 120 < drawn.count(8) < 180 and all(50 < drawn.count(width) < 100 for width in (1, 3))
    assert draw_width((), 0, "images", 0) is None and {draw_width((8,), 0, "images", step) for step in range(20)} == {8}


def test_a_training_step_of_a_width_teaches_the_decoder_nothing_of_the_others() -> None:
    """And the encoder hears of the other channels through commitment and balance alone, never through the pictures."""
    model, quantizer = CausalAutoencoder(SIZES.autoencoder.image_model()), MultiscaleResidualQuantizer(2, 8)
    plain = replace(SIZES, commitment=0.0, balance=0.0)
    stage = Stage(plain, model.train(), quantizer, [MediaBatches(IMAGES, 4, seed=0, purpose="x")], [1.0], 1)
    stage.loss([to_float(torch.stack(IMAGES[:4]))], [1.0], step=0, width=3)[0].backward()
    assert model.decoder[0].weight.grad[:, 3:].count_nonzero() == 0 and model.decoder[0].weight.grad[:, :3].count_nonzero() > 0
    reads, sends = model.to_latent.weight.grad[3:], model.to_latent.weight.grad[:3]
    assert reads.count_nonzero() == 0 and sends.count_nonzero() > 0


@pytest.mark.parametrize("series", [(0, 8), (4, 4, 8), (4,), (8, 4), (4, 16)])
def test_a_series_must_rise_to_all_bits(series) -> None:
    with pytest.raises(ValueError, match=r"bit_series = .* must rise and end with bits = 8; for example \[4, 8\]"):
        replace(SIZES, bit_series=series)
