"""The Fréchet distance of two sets of features, each taken as a Gaussian, and where features come from.

    |m_1 - m_2|^2 + tr(C_1 + C_2 - 2 (C_1 C_2)^(1/2)),      tr (C_1 C_2)^(1/2) = sum of sqrt(eigenvalues of C_1^(1/2) C_2 C_1^(1/2))

Features are `module:callable`: pictures uint8 `t c h w`, or a sound float `n` and its rate in Hz, -> float `rows d`, one or more rows.
With another network than Inception it is no FID, and is never called so. Few rows (below some times d) bias it upward: n and d stand
beside every value.
Source: Dowson and Landau 1982 (the distance); Heusel et al. 2017 (its use). Letters: n rows, d features.
"""

from __future__ import annotations

import torch
from torch import Tensor


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Two float `n d` (n may differ, at least 2) -> the distance, 0 for equal sets."""
    if min(len(one), len(other)) < 2 or one.shape[1] != other.shape[1]:
        raise ValueError(f"features of shapes {tuple(one.shape)} and {tuple(other.shape)} must be n d with n >= 2 and one d; "
                         "measure more media")
    one, other = one.double(), other.double()
    apart = (one.mean(0) - other.mean(0)).square().sum()
    cov_1, cov_2 = _covariance(one), _covariance(other)
    root = _root(cov_1)
    middle = torch.linalg.eigvalsh(root @ cov_2 @ root).clamp_min(0).sqrt().sum()
    return max(0.0, float(apart + cov_1.trace() + cov_2.trace() - 2 * middle))


def rows_of(features: object, name: str) -> Tensor:
    """What a callable gave, as float `rows d` on the CPU. ValueError for any other shape, or values that are no numbers."""
    rows = features if isinstance(features, Tensor) else torch.as_tensor(features)
    rows = rows.detach().cpu().double()
    rows = rows[None] if rows.ndim == 1 else rows
    if rows.ndim != 2 or not rows.isfinite().all():
        raise ValueError(f"features {name!r} gave {tuple(rows.shape)}; they must be finite numbers of shape rows d (or d)")
    return rows


def _covariance(x: Tensor) -> Tensor:
    x = x - x.mean(0)
    return x.mT @ x / (len(x) - 1)


def _root(matrix: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(matrix)
    return vectors * values.clamp_min(0).sqrt() @ vectors.mT
