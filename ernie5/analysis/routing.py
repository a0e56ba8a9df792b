"""The report's routing study as numbers: who shares experts with whom, and how evenly each kind of position spreads over them.

    frequency f_e = positions that chose e / positions    (sums to K)          p_e = f_e / K
    normalised entropy = - sum p_e log p_e / log E        peak = max f_e       overlap IoU = |A and B| / |A or B| of the top 25 %

Beside each stands what routing by chance would give for the same number of positions. An expert that was never chosen is in no set.
Report: §6.4.1, Fig. 8-10. Ours: peaks are shares of positions (docs/routing.md says why). Letters: L layers, R kinds, E experts, K top-k.
"""

from __future__ import annotations

from functools import lru_cache
from math import comb, log

import numpy as np

from ernie5.run.random_streams import stream

TOP_SHARE = 0.25
DRAWS = 16          # simulations of routing by chance
KEYS = 2**22        # random numbers held at once


def frequency(counts: np.ndarray, top_k: int) -> np.ndarray:
    """Choices `… E` -> share of positions that chose each expert `… E`; nan where no position was."""
    return _over(counts * float(top_k), counts.sum(axis=-1, keepdims=True))


def normalised_entropy(counts: np.ndarray) -> np.ndarray:
    """Choices `… E` -> `…`: 1 = spread evenly, log K / log E = always the same K experts; nan where there is nothing to say."""
    p = _over(counts * 1.0, counts.sum(axis=-1, keepdims=True))
    terms = np.where(p > 0, -p * np.log(np.where(p > 0, p, 1.0)), np.where(np.isnan(p), np.nan, 0.0))
    return _over(terms.sum(axis=-1), np.array(log(counts.shape[-1])))


def set_size(num_experts: int) -> int:
    """How many experts the top 25 % are."""
    return max(1, round(TOP_SHARE * num_experts))


def busiest(counts: np.ndarray) -> np.ndarray:
    """Choices `… E` -> bool `… E`: the most chosen quarter of the experts; of equals the first, never one without a choice."""
    order = np.argsort(-counts, axis=-1, kind="stable")
    chosen = np.zeros(counts.shape, dtype=bool)
    np.put_along_axis(chosen, order[..., : set_size(counts.shape[-1])], True, axis=-1)
    return chosen & (counts > 0)


def overlap(counts: np.ndarray) -> np.ndarray:
    """Choices `… R E` -> IoU of the busiest experts of every pair of kinds `… R R`; nan beside a kind without positions."""
    sets = busiest(counts).astype(np.float64)
    both = sets @ np.swapaxes(sets, -1, -2)
    size = sets.sum(axis=-1)
    iou = _over(both, size[..., :, None] + size[..., None, :] - both)
    seen = counts.sum(axis=-1) > 0
    return np.where(seen[..., :, None] & seen[..., None, :], iou, np.nan)


def chance_overlap(num_experts: int) -> tuple[float, float]:
    """IoU of two random sets of the top 25 %, exactly (hypergeometric): the mean, and the value that 95 % of the pairs do not exceed."""
    size = set_size(num_experts)
    shared = range(max(0, 2 * size - num_experts), size + 1)
    odds = np.array([comb(size, s) * comb(num_experts - size, size - s) / comb(num_experts, size) for s in shared])
    iou = np.array([s / (2 * size - s) for s in shared])
    return float(odds @ iou), float(iou[np.searchsorted(odds.cumsum(), 0.95 - 1e-12)])


@lru_cache(maxsize=256)
def chance_spread(num_positions: int, num_experts: int, top_k: int) -> tuple[float, float]:
    """Normalised entropy and peak when every position chooses `top_k` different experts by chance: means of seeded simulations."""
    if num_positions == 0:
        return np.nan, np.nan
    random = stream(0, "routing by chance", num_positions, num_experts, top_k)
    counts = np.zeros((DRAWS, num_experts), dtype=np.int64)
    rows = max(1, KEYS // num_experts)
    for draw in counts:
        for start in range(0, num_positions, rows):
            keys = random.random((min(rows, num_positions - start), num_experts), dtype=np.float32)
            chosen = np.argpartition(keys, top_k - 1, axis=-1)[:, :top_k]
            draw += np.bincount(chosen.ravel(), minlength=num_experts)
    return float(normalised_entropy(counts).mean()), float(frequency(counts, top_k).max(axis=-1).mean())


def _over(value: np.ndarray, by: np.ndarray) -> np.ndarray:
    """Division that gives nan where there is nothing to divide by."""
    shape = np.broadcast_shapes(value.shape, by.shape)
    return np.divide(value, by, out=np.full(shape, np.nan), where=np.broadcast_to(by > 0, shape))
