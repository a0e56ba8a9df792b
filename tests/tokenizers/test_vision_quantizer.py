"""Scales and the multi-scale bit-wise residual quantizer."""

import pytest
import torch
from einops import rearrange

from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import scale_schedule


@pytest.fixture
def latent() -> torch.Tensor:
    return torch.randn(8, 6, 4, 4, generator=torch.Generator().manual_seed(0))  # n d h w


@pytest.fixture
def quantizer(latent) -> MultiscaleResidualQuantizer:
    quantizer = MultiscaleResidualQuantizer(num_scales=3, bits=6)
    for _ in range(30):
        quantizer.quantize(latent)
    return quantizer


@pytest.mark.parametrize("grid, expected", [
    ((1, 1), ((1, 1),)),
    ((4, 4), ((1, 1), (2, 2), (4, 4))),
    ((4, 8), ((1, 1), (1, 2), (2, 4), (4, 8))),
    ((6, 6), ((1, 1), (2, 2), (4, 4), (6, 6))),
    ((5, 3), ((1, 1), (2, 1), (4, 2), (5, 3))),
    ((1, 7), ((1, 1), (1, 2), (1, 4), (1, 7))),
])
def test_scales_double_from_one_cell_to_the_grid(grid, expected):
    assert scale_schedule(*grid) == expected


def test_scales_refuse_an_empty_grid():
    with pytest.raises(ValueError, match="at least 1 x 1"):
        scale_schedule(0, 4)


def test_codes_have_the_shapes_of_the_contract(quantizer, latent):
    codes = quantizer.encode(latent)
    assert [tuple(b.shape) for b in codes.bits] == [(8, 1, 6), (8, 4, 6), (8, 16, 6)]
    assert [tuple(r.shape) for r in codes.reads] == [(8, 4, 6), (8, 16, 6)]
    assert codes.total.shape == latent.shape and codes.pooled.shape == (8, 1, 6)
    assert all(set(b.unique().tolist()) <= {0.0, 1.0} for b in codes.bits)


def test_a_decoder_rebuilds_the_code_from_bits_alone(quantizer, latent):
    """Generation sees bits only: `add` and `read` give what `encode` gave."""
    codes = quantizer.encode(latent)
    total = torch.zeros_like(latent)
    for scale, bits in enumerate(codes.bits):
        if scale:
            torch.testing.assert_close(quantizer.read(total, scale), codes.reads[scale - 1], rtol=0, atol=0)
        total = quantizer.add(total, bits, scale)
    torch.testing.assert_close(total, codes.total, rtol=0, atol=0)
    torch.testing.assert_close(quantizer.read(total, 0), codes.pooled, rtol=0, atol=0)


def test_every_scale_brings_the_sum_nearer_and_keeps_its_bits_alive(quantizer, latent):
    codes, total = quantizer.encode(latent), torch.zeros_like(latent)
    errors = [latent.square().mean()]
    for scale, bits in enumerate(codes.bits):
        total = quantizer.add(total, bits, scale)
        errors.append((latent - total).square().mean())
        assert (bits.mean((0, 1)) - 0.5).abs().max() < 0.3
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.5 * errors[0]


def test_a_flipped_bit_changes_the_history_and_later_targets_repair_it(quantizer, latent):
    clean = quantizer.encode(latent)
    flips = tuple(torch.zeros_like(b, dtype=torch.bool) for b in clean.bits)
    flips[0][:, 0, 2] = True
    corrupted = quantizer.encode(latent, flips)
    assert torch.equal(corrupted.bits[0], clean.bits[0])                                   # a target is never flipped
    assert not torch.equal(corrupted.reads[0][..., 2], clean.reads[0][..., 2])             # the history is
    others = [0, 1, 3, 4, 5]                                                               # nothing mixes channels
    assert torch.equal(corrupted.total[:, others], clean.total[:, others])
    wrong = quantizer.add(torch.zeros_like(latent), (clean.bits[0] > 0) ^ flips[0], 0)
    residual = rearrange(torch.nn.functional.adaptive_avg_pool2d(latent - wrong, 2), "n d h w -> n (h w) d")
    assert torch.equal(corrupted.bits[1], (residual > quantizer.levels.mean[1]).float())
    unrepaired = wrong
    for scale in (1, 2):
        unrepaired = quantizer.add(unrepaired, clean.bits[scale], scale)
    error, error_unrepaired = ((latent - total)[:, 2].square().mean() for total in (corrupted.total, unrepaired))
    assert error < error_unrepaired


def test_the_first_channels_keep_their_bits_without_the_others(quantizer, latent):
    """The nested series: a narrower tokenizer gives the same bits, values and reads for its channels."""
    wide, narrow = quantizer.encode(latent), quantizer.prefix(4).encode(latent[:, :4])
    for a, b in zip((*wide.bits, *wide.reads, wide.pooled), (*narrow.bits, *narrow.reads, narrow.pooled), strict=True):
        assert torch.equal(a[..., :4], b)
    assert torch.equal(wide.total[:, :4], narrow.total)


def test_codes_of_a_frame_do_not_depend_on_its_neighbours(quantizer, latent):
    together, alone = quantizer.encode(latent), quantizer.encode(latent[3:4])
    assert all(torch.equal(a[3:4], b) for a, b in zip(together.bits, alone.bits, strict=True))


def test_mistakes_are_named(quantizer, latent):
    with pytest.raises(ValueError, match="at most 3"):
        quantizer.scales(16, 16)
    with pytest.raises(ValueError, match="must be n 6 h w"):
        quantizer.encode(latent[:, :4])
    with pytest.raises(ValueError, match="give one each"):
        quantizer.encode(latent, flips=())
    with pytest.raises(ValueError, match="bits = 7"):
        quantizer.prefix(7)
