"""Near duplicates of texts: the Jaccard similarity of their word (or character) sequences is at least `threshold`.

    similarity(a, b) = |grams(a) and grams(b)| / |grams(a) or grams(b)|
    candidates       = share one band of a MinHash signature (LSH), and the signatures agree in threshold - 3 sigma or more
    copies           = candidates whose texts, read again, have an exact similarity >= threshold

A text goes when it is near an earlier one that stays; so chains do not pull in what is not alike, and every reject names the text
that stands for it. Only what LSH does not propose can be missed: at most 1 % of pairs right at the threshold, fewer above.
Memory of the decision: 4 bytes x `num_hashes` a sample, and as much again while comparing (1 KB in all by default).
Ours: the choice of bands; the report does not say how it deduplicates.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Literal

import numpy as np

from ernie5.data_pipelines.curate.copies import Copies, tracked
from ernie5.data_pipelines.curate.hashing import grams, jaccard, mix, normalise
from ernie5.data_pipelines.curate.view import Scope, View
from ernie5.run.random_streams import stream

_FOUND_AT_THRESHOLD = 0.99
_BLOCK = 4096          # grams hashed at once
_TEXTS_AT_HAND = 4096  # gram sets kept while deciding


@dataclass(frozen=True)
class NearText:
    """How alike is a copy. One changed word changes `size` grams: in a text of 100 words that leaves 0.94 with words of size 3."""

    threshold: float = 0.8
    unit: Literal["words", "characters"] = "words"
    size: int = 3
    num_hashes: int = 128
    of: Scope = "documents"
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0.3 <= self.threshold <= 1:
            raise ValueError(f"threshold = {self.threshold} must be 0.3 to 1; texts on one subject can be 0.2 alike")
        if not 1 <= self.size <= 64:
            raise ValueError(f"size = {self.size} must be 1 to 64 {self.unit}")
        if not 16 <= self.num_hashes <= 1024:
            raise ValueError(f"num_hashes = {self.num_hashes} must be 16 to 1024")


def sign(view: View, rule: NearText) -> np.ndarray:
    """The MinHash signature: uint32 `1 num_hashes`, or `0 num_hashes` for a sample without such text. Raises BadMedia."""
    found = grams_of(view, rule)
    least = np.full(rule.num_hashes if len(found) else 0, np.iinfo(np.uint64).max, np.uint64)
    if len(found):
        factor, offset = _hash_functions(rule.num_hashes, rule.seed)
        for start in range(0, len(found), _BLOCK):
            least = np.minimum(least, (factor * found[start:start + _BLOCK] + offset).min(axis=1))
    return (least >> np.uint64(32)).astype(np.uint32).reshape(-1, rule.num_hashes)


def grams_of(view: View, rule: NearText) -> np.ndarray:
    """The grams that are compared; none for a sample that the rule is not about."""
    if not view.in_scope(rule.of):
        return np.zeros(0, np.uint64)
    return grams(view.words if rule.unit == "words" else normalise(view.text), rule.size)


def bands(rule: NearText) -> tuple[int, int]:
    """(bands, rows a band): the most rows with which a pair right at the threshold still shares a band 99 times of 100."""
    rows = 1
    while rows < rule.num_hashes and 1 - (1 - rule.threshold ** (rows + 1)) ** (rule.num_hashes // (rows + 1)) >= _FOUND_AT_THRESHOLD:
        rows += 1
    return rule.num_hashes // rows, rows


def find_copies(rows: np.ndarray, owner: np.ndarray, rule: NearText, grams_again: Callable[[int], np.ndarray]) -> Copies:
    """Signatures `n num_hashes` of samples `owner` (`n`, rising) -> copies. `grams_again(number)`: `grams_of` that sample."""
    exact = lru_cache(_TEXTS_AT_HAND)(grams_again)
    least_agreeing = rule.threshold - 3 * math.sqrt(rule.threshold * (1 - rule.threshold) / rule.num_hashes)
    groups = _groups(rows, rule)                               # n bands, -1 = alone
    kept: list[dict[int, list[int]]] = [{} for _ in range(groups.shape[1])]
    found: list[tuple[int, int, float]] = []
    for i in tracked("comparing texts", np.flatnonzero((groups >= 0).any(axis=1)).tolist()):
        mine = [(band, group) for band, group in enumerate(groups[i].tolist()) if group >= 0]
        near = np.array(sorted({j for band, group in mine for j in kept[band].get(group, ())}), np.int64)
        agreeing = (rows[near] == rows[i]).mean(axis=1)
        near = near[agreeing >= least_agreeing]
        alike = [jaccard(exact(int(owner[i])), exact(int(owner[j]))) for j in near]
        best = int(np.argmax(alike)) if alike else -1
        if alike and alike[best] >= rule.threshold:
            found.append((int(owner[i]), int(owner[near[best]]), alike[best]))
        else:
            for band, group in mine:
                kept[band].setdefault(group, []).append(i)
    return Copies.of_list(found)


def _groups(rows: np.ndarray, rule: NearText) -> np.ndarray:
    """int32 `n bands`: for each band, the group of samples with the same hashes in it; -1 for those that are alone."""
    num_bands, num_rows = bands(rule)
    groups = np.full((len(rows), num_bands), -1, np.int32)
    for band in range(num_bands):
        key = np.zeros(len(rows), np.uint64)
        for row in range(num_rows):
            key = mix(key + rows[:, band * num_rows + row].astype(np.uint64) + np.uint64(1))
        _, which, count = np.unique(key, return_inverse=True, return_counts=True)
        groups[:, band] = np.where(count[which] > 1, which, -1)
    return groups


@cache
def _hash_functions(num_hashes: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Odd factors and offsets, uint64 `num_hashes 1`: the upper half of x * factor + offset is the hash of x."""
    factor, offset = stream(seed, "minhash").integers(0, 2**64, (2, num_hashes, 1), dtype=np.uint64)
    return factor | np.uint64(1), offset
