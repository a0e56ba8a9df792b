"""mosaicml-streaming: MDS shards of raw members; its state counts samples."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import torch
from small_samples import Small, small_samples

if torch.version.cuda is None and "+cpu" not in version("torchvision"):
    for name in ("nms", "qnms"):  # it imports torchvision, whose PyPI build finds no operators beside a CPU torch; nothing here calls one
        torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from streaming import MDSWriter, StreamingDataset  # noqa: E402
from streaming.base.util import clean_stale_shared_memory  # noqa: E402

PACKAGE = "mosaicml-streaming"
IN_ORDER, RANDOM = "in order", "shuffled"
ORDERS = (IN_ORDER, RANDOM)


def write(folder: Path, samples: int, image_bytes: int) -> None:
    """Shards of its default size."""
    with MDSWriter(out=str(folder), columns=dict.fromkeys(Small._fields, "bytes")) as writer:
        for small in small_samples(samples, image_bytes):
            writer.write(small._asdict())


def _open(folder: Path, order: str) -> StreamingDataset:
    clean_stale_shared_memory()
    return StreamingDataset(local=str(folder), shuffle=order == RANDOM, batch_size=1)


def read(folder: Path, order: str) -> Iterator[Small]:
    """Every sample once."""
    return (Small(**sample) for sample in _open(folder, order))


def save(folder: Path, at: int, image_bytes: int) -> int:
    """Keep the state after `at` samples, which needs no reading; the checksum of the next one."""
    dataset = _open(folder, IN_ORDER)
    next(iter(dataset))
    (folder / "state.json").write_text(json.dumps(dataset.state_dict(at, from_beginning=True)))
    return next(islice(small_samples(at + 1, image_bytes), at, None)).checksum()


def resume(folder: Path, at: int) -> Small:
    """The first sample after the saved state."""
    dataset = _open(folder, IN_ORDER)
    dataset.load_state_dict(json.loads((folder / "state.json").read_text()))
    return Small(**next(iter(dataset)))
