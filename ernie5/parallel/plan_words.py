"""How a refused number is explained: both numbers, and the values that would work. Ours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

SHOWN = 10  # the smallest ones and the largest are shown of more


def divisors(n: int) -> list[int]:
    """In rising order."""
    small = [i for i in range(1, int(n**0.5) + 1) if n % i == 0]
    return small + [n // i for i in reversed(small) if i * i != n]


def one_of(values: Iterable[object]) -> str:
    """`1, 2, 4 or 8`."""
    words = [str(value) for value in values]
    if len(words) > SHOWN:
        words = [*words[: SHOWN - 2], "…", words[-1]]
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def must_divide(key: str, value: int, of: str, number: int, else_: str = "") -> Iterator[str]:
    """`parallel.expert = 3 must divide model.num_experts = 8; use 1, 2, 4 or 8`, or nothing where it does."""
    if number % value:
        yield f"{key} = {value} must divide {of} = {number}; use {one_of(divisors(number))}{', ' + else_ if else_ else ''}"
