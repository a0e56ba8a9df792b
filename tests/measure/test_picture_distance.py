"""Distances of pictures against closed forms and a plain loop."""

import math

import numpy as np
import pytest
import torch

from ernie5.measure.picture_distance import C1, SAME_DB, gradient_error, psnr, ssim


def grey(value: float, height: int = 16, width: int = 20) -> torch.Tensor:
    return torch.full((1, 3, height, width), value)


def noisy(seed: int, height: int = 18, width: int = 15) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).integers(0, 256, (1, 3, height, width), dtype=np.uint8))


def test_psnr_of_a_known_error():
    assert psnr(grey(100), grey(116)) == pytest.approx(20 * math.log10(255 / 16))
    assert psnr(grey(7), grey(7)) == SAME_DB
    picture = torch.full((1, 3, 256, 256), 128.0)
    assert psnr(picture, picture + 10 * torch.randn(picture.shape)) == pytest.approx(20 * math.log10(255 / 10), abs=0.05)


def test_psnr_of_unsigned_bytes_does_not_wrap():
    assert psnr(grey(0).to(torch.uint8), grey(255).to(torch.uint8)) == pytest.approx(0)


def test_ssim_of_flat_pictures_is_the_luminance_term():
    a, b = 80.0, 120.0
    assert ssim(grey(a), grey(b)) == pytest.approx((2 * a * b + C1) / (a * a + b * b + C1), abs=1e-5)
    assert ssim(noisy(0), noisy(0)) == pytest.approx(1, abs=1e-5)


def test_ssim_equals_a_loop_over_windows():
    x, y = noisy(1), noisy(2)
    at = np.arange(11) - 5
    window = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * 1.5**2))
    window /= window.sum()
    values = []
    for a, b in zip(x[0].double().numpy(), y[0].double().numpy(), strict=True):
        for top in range(a.shape[0] - 10):
            for left in range(a.shape[1] - 10):
                p, q = a[top:top + 11, left:left + 11], b[top:top + 11, left:left + 11]
                m, n = (window * p).sum(), (window * q).sum()
                var_p, var_q, both = (window * (p - m) ** 2).sum(), (window * (q - n) ** 2).sum(), (window * (p - m) * (q - n)).sum()
                c1, c2 = 2.55**2, 7.65**2
                values.append((2 * m * n + c1) * (2 * both + c2) / ((m * m + n * n + c1) * (var_p + var_q + c2)))
    assert ssim(x, y) == pytest.approx(np.mean(values), abs=1e-5)


def test_ssim_needs_a_window():
    assert ssim(grey(1, 10, 40), grey(1, 10, 40)) is None


def test_gradient_error_of_a_ramp():
    picture = grey(50, 16, 16)
    ramp = picture + 3 * torch.arange(16)
    # steps to the right differ by 3, 6, 12 at the three resolutions, steps down by nothing
    assert gradient_error(picture, ramp) == pytest.approx((3 + 6 + 12) / 2 / 3)
    assert gradient_error(picture, picture + 40) == 0  # brightness alone is no edge
    assert gradient_error(grey(1, 1, 1), grey(9, 1, 1)) == 0
