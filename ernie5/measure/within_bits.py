"""The best setting of a codec that fits into a number of bits: what every baseline at the tokenizer's rate asks for."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def highest_fitting(
    encode: Callable[[int], bytes], count: Callable[[bytes], int], settings: Sequence[int], max_bits: float
) -> tuple[bytes, int] | None:
    """The file of the last of `settings` whose bits are at most `max_bits`, and that setting; None when nothing fits. `settings` are in
    the order of quality: the size grows with it (but for a few bits), so halves are left out.
    """
    low, high, fits = 0, len(settings), None
    while low < high:
        middle = (low + high) // 2
        file = encode(settings[middle])
        if count(file) <= max_bits:
            low, fits = middle + 1, (file, settings[middle])
        else:
            high = middle
    return fits
