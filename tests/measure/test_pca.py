"""PCA of blocks: bits are spent where they help, and more of them never hurt."""

import numpy as np
import pytest
import torch
from test_picture_codecs import photo

from ernie5.measure.pca import allot, fit_pca
from ernie5.measure.picture_distance import psnr


def test_bits_go_where_the_error_is():
    assert allot(torch.tensor([16.0, 4.0, 1.0]), 3).tolist() == [2, 1, 0]
    assert allot(torch.tensor([1.0, 0.0]), 50).tolist() == [8, 0]  # no more than 8, none where nothing varies
    assert allot(torch.tensor([5.0, 3.0]), 0).tolist() == [0, 0]


def test_more_bits_less_error():
    fitted, measured = [photo(64, 64), photo(96, 64).flip(-1)], photo(64, 96)
    scores = []
    for bits in (0, 6, 24, 96):
        coder = fit_pca(fitted, 8, bits)
        assert coder.bits == bits
        scores.append(psnr(coder.reconstruct(measured), measured))
    assert scores == sorted(scores) and scores[-1] > scores[0] + 8


def test_two_kinds_of_blocks_take_one_bit():
    """Blocks of two colours: one coefficient, one bit, no error."""
    cells = torch.from_numpy(np.random.default_rng(1).integers(0, 2, (1, 1, 8, 8)))
    picture = (60 + 100 * cells).repeat_interleave(4, 2).repeat_interleave(4, 3).expand(1, 3, 32, 32).to(torch.uint8)
    coder = fit_pca([picture], 4, 1)
    assert coder.bits == 1 and torch.equal(coder.reconstruct(picture), picture)


def test_without_bits_every_block_is_the_mean():
    picture = photo(16, 16)
    assert fit_pca([picture], 8, 0).reconstruct(picture).double().mean() == pytest.approx(float(picture.double().mean()), abs=0.5)
