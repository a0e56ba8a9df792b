"""Use of codes on hand-made cases."""

import pytest
import torch

from ernie5.measure.code_usage import bit_entropy, codebook_usage, even_share, joint_usage


def test_entropy_of_bits():
    found = bit_entropy(torch.tensor([0, 1, 2, 4]), 4)
    assert found.tolist() == pytest.approx([0, 0.811278, 1, 0], abs=1e-6)


def test_a_codebook():
    used = codebook_usage(torch.tensor([0, 0, 1, 1, 2, 2, 3, 3]), 8).plain
    assert used["used_share"] == 0.5 and used["dead"] == 4 and used["seen"] == 8
    assert used["perplexity"] == pytest.approx(4) and used["normalised_entropy"] == pytest.approx(2 / 3)
    one = codebook_usage(torch.zeros(5, dtype=torch.int64), 8).plain
    assert one["perplexity"] == 1 and one["normalised_entropy"] == 0
    assert codebook_usage(torch.empty(0, dtype=torch.int64), 8).plain["used_share"] == 0
    with pytest.raises(ValueError, match="another tokenizer"):
        codebook_usage(torch.tensor([8]), 8)


def test_what_an_even_codebook_would_show():
    assert even_share(4, 1) == pytest.approx(0.25)
    assert even_share(2, 2) == pytest.approx(0.75)


def test_bits_as_one_code():
    bits = torch.tensor([[0, 0], [0, 1], [0, 0], [0, 1]], dtype=torch.uint8)
    used = joint_usage(bits)
    assert (used.size, used.used, used.entropy_bits) == (4, 2, pytest.approx(1))
    assert joint_usage(torch.zeros(3, 48, dtype=torch.uint8)) is None
