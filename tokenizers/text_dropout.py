"""BPE-dropout: whenever a merge would be made, it is left out with probability p, until its neighbours change.

    P(nothing is left out in a word of k merges) = (1 - p)^k,     first one left out = floor(ln u / ln(1 - p)),  u uniform in (0, 1)

so one number tells which words stay as they are; only the others are merged anew. Characters of the vocabulary are whole from the start:
dropout makes parts of words, never halves of characters. A pure function of text, p and seed.
Report: §3.1 (BPE dropout; Provilkov et al., 2020). Ours: sentencepiece's own sampler gives other ids in every process, whatever its seed
(0.2.3), so a resumed run, other ranks and workers would see other tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from heapq import heapify, heappop, heappush
from itertools import chain, repeat

import numpy as np

from ernie5.run.random_streams import stream

MAX_KEPT, MAX_KEPT_CHARS = 2**16, 24  # words that were taken apart before


class BpeDropout:
    """`piece_bytes`: merges in their order, then the bytes; a token is its number there."""

    def __init__(self, piece_bytes: Sequence[bytes]) -> None:
        self.number = {piece: number for number, piece in enumerate(piece_bytes)}
        self._parts: dict[str, list[bytes]] = {}   # of words and of characters

    def encode(self, words: Sequence[str], plain: Sequence[np.ndarray], rate: float, seed: int) -> list[int]:
        """The tokens of words in a row; `plain` are those of each without dropout."""
        random = stream(seed, "BPE dropout")
        log_keep, uniform = math.log1p(-rate), 1 - random.random(len(words))  # above 0
        first = np.floor(np.log(uniform) / log_keep)
        starts = [self._parts.get(word) or self.parts(word) for word in words]
        most = 3 * sum(map(len, starts))  # every merge makes two new neighbours at most
        left_out = iter((random.random(most) < rate).tolist())
        tokens: list[int] = []
        for parts, whole, number in zip(starts, plain, first.tolist(), strict=True):
            if number >= len(parts) - len(whole):
                tokens.extend(whole.tolist())
            else:
                tokens.extend(map(self.number.__getitem__, self.merge(parts, chain(repeat(False, int(number)), (True,), left_out))))
        return tokens

    def parts(self, word: str) -> list[bytes]:
        """What merging begins with: each character as it is without any neighbour, whole or its bytes."""
        if len(word) > 1:
            found = [part for c in word for part in self._parts.get(c) or self.parts(c)]
        else:
            data = word.encode("utf-16-be", "surrogatepass")
            found = self.merge([data[i : i + 1] for i in range(len(data))], repeat(False))
        if len(word) <= MAX_KEPT_CHARS:
            if len(self._parts) >= MAX_KEPT:
                self._parts = {}
            self._parts[word] = found
        return found

    def merge(self, parts: list[bytes], left_out: Iterator[bool]) -> list[bytes]:
        """Join neighbours, the earliest merge of the vocabulary first, then from left to right. `left_out` is asked for every one."""
        number, parts = self.number, list(parts)
        end = len(parts)
        after, before = list(range(1, end + 1)), list(range(-1, end - 1))
        heap = [(rank, i, parts[i] + parts[i + 1]) for i in range(end - 1) if (rank := number.get(parts[i] + parts[i + 1])) is not None]
        heapify(heap)
        while heap:
            _, i, joined = heappop(heap)
            j = after[i]
            # parts only grow: the same length means that neither has changed
            if not parts[i] or j == end or len(parts[i]) + len(parts[j]) != len(joined) or next(left_out):
                continue
            parts[i], parts[j], after[i] = joined, b"", after[j]
            if after[j] < end:
                before[after[j]] = i
                self._offer(heap, parts, i, after[j])
            if before[i] >= 0:
                self._offer(heap, parts, before[i], i)
        return [part for part in parts if part]

    def _offer(self, heap: list[tuple[int, int, bytes]], parts: list[bytes], i: int, j: int) -> None:
        joined = parts[i] + parts[j]
        rank = self.number.get(joined)
        if rank is not None:
            heappush(heap, (rank, i, joined))
