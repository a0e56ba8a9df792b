"""webdataset over our shards. It verifies nothing and keeps no state: after a restart it must skip what was seen."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import webdataset
from small_samples import Small, small_samples

PACKAGE = "webdataset"
ORDERS = ("in order",)
SHARES_TARS = True
warnings.simplefilter("ignore")


def read(folder: Path, order: str) -> Iterator[Small]:
    """Every sample once, in order."""
    for sample in webdataset.WebDataset([str(p) for p in sorted(folder.glob("*.tar"))], shardshuffle=False, empty_check=False):
        yield Small(sample["0.txt"], sample["1.jpg"], sample["json"])


def save(folder: Path, at: int, image_bytes: int) -> int:
    """There is no state; the checksum of the sample after `at`."""
    return next(islice(small_samples(at + 1, image_bytes), at, None)).checksum()


def resume(folder: Path, at: int) -> Small:
    """The sample after `at` others."""
    return next(islice(read(folder, "in order"), at, None))
