"""H.264: what is counted, and that the best within a budget is within it."""

import numpy as np
import torch

from ernie5.measure.clip_codecs import at_crf, best_clip, h264, slice_bits
from ernie5.measure.picture_distance import psnr

CLIP = (torch.arange(48) * 3 + torch.arange(32)[:, None] * 2 + 8 * torch.arange(5)[:, None, None]).to(torch.uint8)
CLIP = CLIP[:, None].repeat(1, 3, 1, 1)  # 5 3 32 48: a ramp that gets lighter


def test_a_hand_made_stream():
    """Parameter sets (7, 8) and supplements (6) are free; slices 1 and 5 count without start codes and the zero before them."""
    unit = lambda kind, *rest: b"\x00\x00\x01" + bytes([0x60 | kind, *rest])  # noqa: E731
    assert slice_bits(unit(7, 1, 2) + b"\x00" + unit(8, 3) + unit(6, 9, 9) + unit(5, 1, 2, 3) + b"\x00" + unit(1, 7)) == 8 * (4 + 2)


def test_the_best_within_a_budget():
    budget = 0.15 * CLIP[:, 0].numel()
    coded = best_clip(CLIP, budget)
    assert coded is not None and coded.bits <= budget and coded.clip.shape == CLIP.shape
    better = at_crf(CLIP, coded.crf - 1)
    assert better.bits > budget and psnr(better.clip, CLIP) >= psnr(coded.clip, CLIP) - 0.2
    assert at_crf(CLIP, 10).bits > at_crf(CLIP, 51).bits
    assert psnr(at_crf(CLIP, 10).clip, CLIP) > 35  # frames are in order


def test_below_the_lowest_rate_only_shrinking_helps():
    noise = torch.from_numpy(np.random.default_rng(0).integers(0, 256, CLIP.shape, dtype=np.uint8))
    least = at_crf(noise, 51).bits
    assert best_clip(noise, least - 8) is None
    small = best_clip(noise, 0.7 * least, shrink=True)
    assert small is not None and small.scale < 1 and small.bits <= 0.7 * least and small.clip.shape == CLIP.shape
    assert best_clip(noise, 0, shrink=True) is None


def test_odd_sides_come_back_as_they_were():
    assert at_crf(CLIP[:, :, :31, :45], 20).clip.shape == (5, 3, 31, 45)
    assert slice_bits(h264(CLIP[:1], 30)) > 0  # one frame
