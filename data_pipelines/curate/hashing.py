"""Words and word sequences (n-grams) of a text as 64-bit hashes: what MinHash, Jaccard similarity and decontamination work on.

    normalise("Ａ  Red\\n CIRCLE.") = "a red circle."       words -> ["a", "red", "circle"]
    gram i = hash(word i, …, word i + size - 1); a text with fewer words than `size` is one gram of all its words

A Chinese, Japanese or Korean character is a word of its own, because these scripts put no spaces; other marks than letters and
digits are no words. The hashes are the same on every machine and in every process.
Ours: all of it.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from zlib import crc32

import numpy as np

_CJK = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff"
_WORD = re.compile(rf"[{_CJK}]|[^\W_{_CJK}]+")
_FACTOR, _STIR_1, _STIR_2 = (np.uint64(x) for x in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))
_SHIFT_1, _SHIFT_2, _SHIFT_3 = (np.uint64(x) for x in (30, 27, 31))


def normalise(text: str) -> str:
    """One form for texts that differ only in case, width of characters and white space."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """The words of a text, in order, normalised."""
    return _WORD.findall(normalise(text))


def grams(units: Sequence[str], size: int) -> np.ndarray:
    """Sorted hashes, uint64, without repeats, of all runs of `size` units (words or characters); empty for no units."""
    if not units:
        return np.zeros(0, np.uint64)
    size = min(size, len(units))
    # the length makes it 64 bits: two units with one checksum also need one length
    codes = mix(np.array([crc32(u.encode("utf-8", "surrogatepass")) | len(u) << 32 for u in units], np.uint64))
    count = len(units) - size + 1
    runs = np.full(count, size, np.uint64)
    for i in range(size):
        runs = runs * _FACTOR + codes[i:i + count]
    return np.unique(mix(runs))


def mix(values: np.ndarray) -> np.ndarray:
    """Spread uint64 values evenly (splitmix64); one to one."""
    values = (values ^ (values >> _SHIFT_1)) * _STIR_1
    values = (values ^ (values >> _SHIFT_2)) * _STIR_2
    return values ^ (values >> _SHIFT_3)


def jaccard(a: np.ndarray, b: np.ndarray) -> float:
    """|a and b| / |a or b| of two results of `grams`; 0 when both are empty."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(1, len(a) + len(b) - both)
