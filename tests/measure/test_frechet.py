"""The Fréchet distance against closed forms and another library's matrix root."""

import numpy as np
import pytest
import torch

from ernie5.measure.features import picture_statistics, sound_statistics
from ernie5.measure.frechet import frechet_distance, rows_of
from ernie5.run.parts import load_function


def sample(mean: np.ndarray, covariance: np.ndarray, n: int = 50, seed: int = 0) -> torch.Tensor:
    """Rows whose mean and covariance are exactly these."""
    raw = np.random.default_rng(seed).standard_normal((n, len(mean)))
    raw -= raw.mean(0)
    raw = raw @ np.linalg.inv(np.linalg.cholesky(np.cov(raw.T))).T
    return torch.from_numpy(raw @ np.linalg.cholesky(covariance).T + mean)


def test_two_gaussians_with_independent_features():
    one = sample(np.array([0.0, 1.0, 2.0]), np.diag([1.0, 4.0, 9.0]), seed=1)
    other = sample(np.array([3.0, 1.0, 0.0]), np.diag([4.0, 4.0, 1.0]), n=80, seed=2)
    assert frechet_distance(one, other) == pytest.approx((9 + 4) + (1 - 2) ** 2 + 0 + (3 - 1) ** 2)


def test_two_gaussians_whose_features_depend_on_each_other():
    linalg = pytest.importorskip("scipy.linalg")
    a, b = np.array([[2.0, 0.8], [0.8, 1.0]]), np.array([[1.0, -0.4], [-0.4, 3.0]])
    wanted = np.trace(a + b - 2 * linalg.sqrtm(a @ b).real) + 5
    assert frechet_distance(sample(np.array([1.0, 2.0]), a), sample(np.zeros(2), b, seed=5)) == pytest.approx(wanted)


def test_equal_sets_are_not_apart_even_with_few_rows():
    rows = torch.randn(4, 10)
    assert frechet_distance(rows, rows) == pytest.approx(0, abs=1e-6)
    with pytest.raises(ValueError, match="measure more media"):
        frechet_distance(rows[:1], rows)


def test_a_feature_function_is_named_or_explained():
    assert load_function("ernie5.measure.features:picture_statistics") is picture_statistics
    for name, why in (("nothing", "module:Class"), ("no_such_module_x:f", "PYTHONPATH"), ("math:pi", "no function pi")):
        with pytest.raises(ValueError, match=why):
            load_function(name)
    assert rows_of([1.0, 2.0], "f").shape == (1, 2)
    with pytest.raises(ValueError, match="finite"):
        rows_of(torch.tensor([[float("nan")]]), "f")


def test_default_features_see_what_they_say():
    flat = torch.full((2, 3, 24, 40), 100, dtype=torch.uint8)
    rows = picture_statistics(flat)
    assert rows.shape == (2, 36)
    assert rows[0, 0] == 100 and rows[0, 1:].abs().sum() == pytest.approx(200)  # the mean grey at three resolutions, nothing else
    assert sound_statistics(torch.zeros(40_000), 16_000).shape == (2, 32)
    assert sound_statistics(torch.zeros(100), 16_000).shape == (1, 32)
