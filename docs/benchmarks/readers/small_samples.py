"""The samples that all readers write and read: a caption, an image-sized member of random bytes, a small JSON. Numpy and nothing else."""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

ATTRIBUTES = {"width": 32, "height": 32, "language": "en"}
JSON = json.dumps(ATTRIBUTES).encode()


class Small(NamedTuple):
    """A sample as it is stored; `attributes` as a reader gives them: the bytes of the JSON, or its values."""

    caption: bytes
    image: bytes
    attributes: bytes | dict

    def checksum(self) -> int:
        """The same for the same sample, however its JSON was spelt."""
        values = self.attributes if isinstance(self.attributes, dict) else json.loads(bytes(self.attributes))
        values = values.get("attributes", values)  # our shards keep more beside them
        return zlib.crc32(self.caption) + zlib.crc32(self.image) + zlib.crc32(json.dumps(values, sort_keys=True).encode())


def small_samples(count: int, image_bytes: int) -> Iterator[Small]:
    """Always the same ones."""
    random = np.random.default_rng(0)
    for i in range(count):
        caption = f"a small red circle to the left of a large blue square, number {i}".encode()
        yield Small(caption, random.bytes(image_bytes), JSON)
