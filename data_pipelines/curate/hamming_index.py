"""All 64-bit codes within a few bits of a given one, without comparing it with every code.

    64 bits = 4 chunks of 16. Two codes that differ in at most `radius` bits differ in at most radius // 4 bits in one chunk at least,
    so it is enough to look up, in one table per chunk, every value that is so near (17 values for a radius of 4 to 7, 137 for 8 to 11).

Memory: about 500 bytes a code at most. Ours: multi-index hashing, because 64-bit codes are too many for one table.
"""

from __future__ import annotations

from itertools import combinations

MAX_RADIUS = 15
_CHUNKS, _BITS = 4, 16


class HammingIndex:
    """Codes by nearness. Numbers of codes count from 0 in the order of `add`."""

    def __init__(self, radius: int):
        """`radius`: the most bits that may differ, 0 to 15."""
        if not 0 <= radius <= MAX_RADIUS:
            raise ValueError(f"distance = {radius} must be 0 to {MAX_RADIUS} of 64 bits; above, unrelated pictures count as copies")
        self.radius = radius
        self.codes: list[int] = []
        self._tables: list[dict[int, list[int]]] = [{} for _ in range(_CHUNKS)]
        self._masks = [sum(1 << bit for bit in bits) for n in range(radius // _CHUNKS + 1) for bits in combinations(range(_BITS), n)]

    def add(self, code: int) -> None:
        """Take in one code."""
        for table, chunk in zip(self._tables, _split(code), strict=True):
            table.setdefault(chunk, []).append(len(self.codes))
        self.codes.append(code)

    def near(self, code: int) -> list[tuple[int, int]]:
        """(distance, number) of every code within `radius` bits, nearest first, then in order of `add`."""
        found: dict[int, int] = {}
        for table, chunk in zip(self._tables, _split(code), strict=True):
            for mask in self._masks:
                for number in table.get(chunk ^ mask, ()):
                    if number not in found:
                        found[number] = (self.codes[number] ^ code).bit_count()
        return sorted((distance, number) for number, distance in found.items() if distance <= self.radius)


def _split(code: int) -> list[int]:
    return [code >> _BITS * i & (1 << _BITS) - 1 for i in range(_CHUNKS)]
