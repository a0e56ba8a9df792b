"""Counter-based random streams: the same arguments give the same numbers, wherever and whenever they are drawn.

    stream(seed, purpose, *keys)  =  Philox 4x64 with the 128-bit key  blake2b(seed, purpose, *keys)

Nothing depends on the order of calls, on the world size or on the number of workers, and a resumed run has no state to restore:
`stream(seed, "bit flips", sample_id, frame)` is the same stream on every rank. Integers and strings are different keys (5 is not "5").

Ours: the report says nothing about random numbers.
"""

from __future__ import annotations

from hashlib import blake2b
from operator import index

import numpy as np
import torch
from numpy.random.bit_generator import ISeedSequence


def stream(seed: int, purpose: str, *keys: int | str) -> np.random.Generator:
    """A fresh numpy generator for this seed, purpose and keys. TypeError for keys that are neither integers nor strings."""
    return np.random.Generator(np.random.Philox(_Key(_digest(seed, purpose, keys))))  # type: ignore[arg-type]


def torch_generator(seed: int, purpose: str, *keys: int | str) -> torch.Generator:
    """A fresh CPU torch generator. Torch seeds its CPU engine with 32 bits only: for many tiny draws `stream` is the better choice."""
    generator = torch.Generator()
    generator.manual_seed(int.from_bytes(_digest(seed, purpose, keys)[:8], "little"))
    return generator


class _Key(ISeedSequence):
    """The key itself as a source of seeds: Philox(key=…) would first ask the operating system for random bytes that it never uses."""

    def __init__(self, key: bytes) -> None:
        self.key = key

    def generate_state(self, n_words: int, dtype: object = np.uint32) -> np.ndarray:
        return np.frombuffer(self.key, dtype="<u8")


def _digest(seed: int, purpose: str, keys: tuple[int | str, ...]) -> bytes:
    """16 bytes. `ascii` of the tuple is unambiguous (quotes are escaped) and the same for numpy and Python integers."""
    plain = [key if isinstance(key, str) else int(index(key)) for key in keys]
    return blake2b(ascii((int(index(seed)), purpose, *plain)).encode(), digest_size=16).digest()
