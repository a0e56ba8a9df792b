"""In which order an epoch visits the samples of a source: a permutation that can be asked at any place, without walking there.

    up to 2^22 samples   numpy's shuffle of stream(seed, "epoch", source, epoch), the last ones kept in memory
    above                six Feistel rounds over the next even power of two or so, walked until the value is below `size`

The second needs no memory and about two walks a draw, whatever the size. Ours.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ernie5.run.random_streams import stream

LARGEST_TABLE = 2**22
ROUNDS = 6
_MASK = 2**64 - 1


def place_of(seed: int, source: str, epoch: int, size: int, offset: int) -> int:
    """The `offset`-th sample (0 <= offset < size) that epoch number `epoch` draws from a source of `size` samples."""
    if size <= LARGEST_TABLE:
        return int(_table(seed, source, epoch, size)[offset])
    keys = _keys(seed, source, epoch)
    low = (size - 1).bit_length() // 2
    high = (size - 1).bit_length() - low
    value = offset
    while True:  # a permutation of 0 .. 2^(low + high) - 1, less than twice as many as there are samples
        value = _feistel(value, low, high, keys)
        if value < size:
            return value


def _feistel(value: int, low: int, high: int, keys: tuple[int, ...]) -> int:
    """One pass; the halves may differ by a bit, so they change places with their widths (an even number of rounds restores them)."""
    right, left = value & ((1 << low) - 1), value >> low
    for key in keys:
        left, right = right, (left ^ _mixed(right, key)) & ((1 << high) - 1)
        low, high = high, low
    return (left << low) | right


def _mixed(value: int, key: int) -> int:
    """64 bits that depend on every bit of both (splitmix64)."""
    value = (value + key) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


@lru_cache(maxsize=16)  # the epochs at hand of a few sources; 16 MiB at most each
def _table(seed: int, source: str, epoch: int, size: int) -> np.ndarray:
    return stream(seed, "epoch", source, epoch).permutation(size).astype(np.uint32)


@lru_cache(maxsize=64)
def _keys(seed: int, source: str, epoch: int) -> tuple[int, ...]:
    return tuple(stream(seed, "epoch keys", source, epoch).integers(0, 2**64, ROUNDS, dtype=np.uint64).tolist())
