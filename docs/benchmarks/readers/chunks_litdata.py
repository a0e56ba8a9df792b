"""litdata: chunks of raw members; its state counts samples. It gives views of a mapped file; one order copies them, as the others do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from litdata import StreamingDataLoader, StreamingDataset
from litdata.streaming import Cache
from small_samples import Small, small_samples

PACKAGE = "litdata"
IN_ORDER, RANDOM, COPIED = "in order, views", "shuffled, views", "in order, copied"
ORDERS = (IN_ORDER, RANDOM, COPIED)


def write(folder: Path, samples: int, image_bytes: int) -> None:
    """Chunks of 64 MB, as its documentation does."""
    cache = Cache(str(folder), chunk_bytes="64MB")
    for number, small in enumerate(small_samples(samples, image_bytes)):
        cache[number] = small._asdict()
    cache.done()
    cache.merge()


def read(folder: Path, order: str) -> Iterator[Small]:
    """Every sample once."""
    samples = StreamingDataset(str(folder), shuffle=order == RANDOM)
    if order == COPIED:
        return (Small(bytes(s["caption"]), bytes(s["image"]), bytes(s["attributes"])) for s in samples)
    return (Small(**sample) for sample in samples)


def _first(batch: list[dict]) -> dict:
    return batch[0]


def _loader(folder: Path) -> StreamingDataLoader:
    return StreamingDataLoader(StreamingDataset(str(folder)), batch_size=1, num_workers=0, collate_fn=_first)


def save(folder: Path, at: int, image_bytes: int) -> int:
    """Read `at` samples, keep the state; the checksum of the next one."""
    loader = _loader(folder)
    samples = iter(loader)
    for _ in islice(samples, at):
        pass
    (folder / "state.json").write_text(json.dumps(loader.state_dict()))
    return Small(**next(samples)).checksum()


def resume(folder: Path, at: int) -> Small:
    """The first sample after the saved state."""
    loader = _loader(folder)
    loader.load_state_dict(json.loads((folder / "state.json").read_text()))
    return Small(**next(iter(loader)))
