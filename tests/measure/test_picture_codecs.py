"""JPEG and WebP: what is counted, and that the best within a budget is within it."""

import re
from io import BytesIO

import numpy as np
import pytest
import torch
from PIL import Image

from ernie5.measure.picture_codecs import CODECS, QUALITIES, at_quality, best_within, jpeg, lowest, scan_bits, vp8_bits, webp
from ernie5.measure.picture_distance import psnr


def photo(height: int = 64, width: int = 96) -> torch.Tensor:
    """Smooth shapes and some noise."""
    y, x = np.mgrid[:height, :width] / 16
    planes = [128 + 80 * np.sin(x + i) * np.cos(y * (1 + 0.3 * i)) for i in range(3)]
    noise = np.random.default_rng(0).normal(0, 6, (3, height, width))
    return torch.from_numpy((np.stack(planes) + noise).clip(0, 255).astype(np.uint8))[None]


def image() -> Image.Image:
    return Image.fromarray(photo()[0].permute(1, 2, 0).numpy())


def test_a_hand_made_jpeg():
    """Scan data holds a stuffed zero and a restart marker, which belong to it; an 0xFFDA inside a comment does not begin a scan."""
    comment = b"\xff\xfe\x00\x06\xff\xda\x00\x08"
    header = b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00"
    scan = b"\x12\xff\x00\x34\xff\xd0\x56"
    assert scan_bits(b"\xff\xd8" + comment + header + scan + b"\xff\xd9") == 8 * len(scan)
    assert scan_bits(b"\xff\xd8" + comment + 2 * (header + scan) + b"\xff\xd9") == 16 * len(scan)  # progressive: several scans
    with pytest.raises(ValueError, match="marker"):
        scan_bits(b"\xff\xd8" + b"\x00\x00\x00\x00\x00\x00")


@pytest.mark.parametrize("quality", [1, 30, 95])
def test_a_real_jpeg_is_header_scan_end(quality):
    file = jpeg(image(), quality)
    tables = [m.start() for m in re.finditer(rb"\xff\xda\x00\x0c\x03", file)]
    assert len(tables) == 1
    assert scan_bits(file) == 8 * (len(file) - tables[0] - 14 - 2)


def test_a_real_webp():
    file = webp(image(), 30)
    assert file[12:16] == b"VP8 "
    assert abs(len(file) - (20 + 10 + vp8_bits(file) / 8)) <= 1  # a byte of padding


@pytest.mark.parametrize("name", CODECS)
def test_the_best_within_a_budget(name):
    picture, (variants, count) = photo(), CODECS[name]
    budget = 0.8 * picture[0, 0].numel()
    coded = best_within(name, picture, budget)
    assert coded is not None and coded.bits <= budget and coded.picture.shape == picture.shape
    scores = {}
    for codec in variants:  # every quality, by hand
        for quality in QUALITIES:
            file = codec(image(), quality)
            if count(file) <= budget:
                decoded = torch.from_numpy(np.array(Image.open(BytesIO(file)).convert("RGB"))).permute(2, 0, 1)[None]
                scores[quality] = max(scores.get(quality, 0), psnr(decoded, picture))
    assert psnr(coded.picture, picture) == pytest.approx(max(scores.values()), abs=0.1)
    of_all_sizes = best_within(name, picture, budget, shrink=True)
    assert of_all_sizes is not None and psnr(of_all_sizes.picture, picture) >= psnr(coded.picture, picture)


def test_below_quality_one_only_shrinking_helps():
    picture = photo()
    least = lowest("jpeg", picture)
    assert least.quality == 1 and least.bits == at_quality("jpeg", picture, 1).bits
    assert best_within("jpeg", picture, least.bits - 8) is None
    small = best_within("jpeg", picture, 0.5 * least.bits, shrink=True)
    assert small is not None and small.scale < 1 and small.bits <= 0.5 * least.bits
    assert best_within("jpeg", picture, 0, shrink=True) is None
