"""The formula of scale schedules, and which scales of small and large grids share statistics."""

import pytest
import torch

from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import ScaleConfig, scale_schedule


def sides(longest: int, config: ScaleConfig) -> list[int]:
    return [h for h, _ in scale_schedule(longest, longest, config)]


@pytest.mark.parametrize("per_doubling, longest, expected", [
    (1, 16, [1, 2, 4, 8, 16]),
    (2, 16, [1, 2, 3, 4, 6, 8, 12, 16]),
    (2, 64, [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64]),
    (4, 16, [1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16]),
    (2, 17, [1, 2, 3, 4, 6, 8, 12, 16, 17]),
    (3, 1, [1]),
])
def test_octaves_are_cut_into_equal_steps(per_doubling, longest, expected):
    assert sides(longest, ScaleConfig(per_doubling)) == expected


def test_a_last_step_that_is_too_small_is_left_out():
    assert sides(17, ScaleConfig(2, last_growth=1.2)) == [1, 2, 3, 4, 6, 8, 12, 17]
    assert sides(2, ScaleConfig(2, last_growth=2.0)) == [1, 2]


@pytest.mark.parametrize("config", [ScaleConfig(), ScaleConfig(2), ScaleConfig(3, 1.3), ScaleConfig(8)])
def test_every_grid_gets_a_schedule_from_one_cell_to_itself(config):
    for height in (1, 2, 3, 5, 8, 13, 32, 57):
        for width in (1, 2, 4, 7, 16, 33, 64):
            found = scale_schedule(height, width, config)
            assert found[0] == (1, 1) and found[-1] == (height, width) and len(set(found)) == len(found)
            assert all(a[0] <= b[0] and a[1] <= b[1] for a, b in zip(found, found[1:], strict=False))
            assert all(abs(h / height - w / width) <= 0.5 / height + 0.5 / width or 1 in (h, w) for h, w in found)


@pytest.mark.parametrize("share, rows", [("side", [0, 1, 2]), ("cell", [0, 3, 4])])
def test_scales_of_a_small_grid_find_their_statistics(share, rows):
    """The large grid has five scales: the small one's meet its first ones, or those with cells of the same size."""
    config = ScaleConfig(share=share)
    assert [config.row(scale, 3, 5) for scale in range(3)] == rows
    assert [config.row(scale, 5, 5) for scale in range(5)] == [0, 1, 2, 3, 4]
    quantizer = MultiscaleResidualQuantizer(5, 2, config)
    quantizer.quantize(torch.randn(3, 2, 4, 4, generator=torch.Generator().manual_seed(0)))
    assert quantizer.levels.updates.nonzero().flatten().tolist() == rows


def test_a_denser_schedule_codes_the_same_latent_more_closely():
    latent = torch.randn(8, 4, 16, 16, generator=torch.Generator().manual_seed(0))
    errors = []
    for per_doubling in (1, 2, 4):
        quantizer = MultiscaleResidualQuantizer(16, 4, ScaleConfig(per_doubling))
        for _ in range(20):
            quantizer.quantize(latent)
        codes = quantizer.encode(latent)
        rebuilt = torch.zeros_like(latent)
        for scale, bits in enumerate(codes.bits):
            rebuilt = quantizer.add(rebuilt, bits, scale)
        torch.testing.assert_close(rebuilt, codes.total, rtol=0, atol=0)
        errors.append((latent - codes.total).square().mean().item())
    assert errors == sorted(errors, reverse=True) and errors[2] < 0.8 * errors[0]


def test_numbers_that_cannot_be_are_named():
    with pytest.raises(ValueError, match="per_doubling = 0"):
        ScaleConfig(per_doubling=0)
    with pytest.raises(ValueError, match="last_growth = 3"):
        ScaleConfig(last_growth=3)
