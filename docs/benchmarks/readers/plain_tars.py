"""The floor: the tars read from end to end, nothing found in them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from small_samples import Small

ORDERS = ("in order",)


def read(folder: Path, order: str) -> Iterator[Small]:
    """No sample."""
    for path in sorted(folder.glob("*.tar")):
        with open(path, "rb", buffering=0) as file:
            while file.read(2**20):
                pass
    return iter(())
