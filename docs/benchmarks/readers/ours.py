"""This project's sources, mixture and loader. The CRC-32 of every member is checked whenever it is read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from small_samples import ATTRIBUTES, Small, small_samples

from ernie5.data_pipelines.collate import Widths
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.grouping import Grouping
from ernie5.data_pipelines.loader import BatchShape, Loader, LoaderState, SampleMaker
from ernie5.data_pipelines.mixture import Mixture
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sources import Record, ShardSource
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.sequence import Modality, Sample, Segment
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer

PACKAGE = "ernie5"
IN_ORDER, RANDOM, MIXTURE = "in order", "random order", "drawn by the mixture"
ORDERS = (IN_ORDER, RANDOM, MIXTURE)
SHAPE = BatchShape(1, 160, 1)


def write(folder: Path, samples: int, image_bytes: int) -> None:
    """Shards of 1,000 samples, indexed as a first open would."""
    with ShardWriter(folder, "small") as writer:
        for i, small in enumerate(small_samples(samples, image_bytes)):
            writer.write(f"{i:08d}", [Member(Modality.TEXT, "txt", small.caption), Member(Modality.IMAGE, "jpg", small.image)], ATTRIBUTES)
    ShardSource("s", folder)


def read(folder: Path, order: str) -> Iterator[Small]:
    """Every sample once. `drawn by the mixture` is the order of training: after every draw the mixture's counters are its exact state."""
    source = ShardSource("s", folder)
    if order == MIXTURE:
        mixture = Mixture({"s": len(source)}, {"s": 1.0}, seed=1)
        places = (mixture.draw().place for _ in range(len(source)))
    else:
        places = iter(range(len(source)) if order == IN_ORDER else np.random.default_rng(1).permutation(len(source)).tolist())
    for place in places:
        yield _small(source.read(place))


def _small(record: Record) -> Small:
    return Small(record.members[0].data, record.members[1].data, record.attributes)


class Letters:
    """One token a letter."""

    modality = Modality.TEXT

    def encode(self, media: str) -> torch.Tensor:
        return torch.tensor([16 + ord(c) % 40 for c in media])


def _loader(folder: Path) -> tuple[Loader, dict[str, Small]]:
    """A loader that packs captions, and the samples that it has read by id; their images are read and checked too."""
    source = ShardSource("s", folder)
    seen: dict[str, Small] = {}

    def sample(_: str, place: int) -> Sample:
        record = source.read(place)
        seen[record.id] = _small(record)
        return Sample(record.id, (Segment(Modality.TEXT, record.members[0].data.decode()),), {})

    grouping = Grouping(MultiscaleResidualQuantizer(num_scales=2, bits=4).eval(), 2, 16)
    maker = SampleMaker(sample, lambda key, reason: None, lambda: None, Encoder(Tokenizers(Letters(), None, None), 0.001), grouping,
                        RolesConfig(), seed=1)
    return Loader(maker, Mixture({"s": len(source)}, {"s": 1.0}, seed=1), Widths(4, 2, 4, 8)), seen


def save(folder: Path, at: int, image_bytes: int) -> int:
    """Keep the state after `at` samples; the checksum of the next one. The last 1,000 of them are read, packed and collated."""
    mixture = Mixture({"s": len(ShardSource("s", folder))}, {"s": 1.0}, seed=1)
    for _ in range(at - 1000):
        mixture.draw()
    loader, seen = _loader(folder)
    loader.restore(LoaderState(mixture.drawn, mixture.per_source, (), mixture.owed))
    while (batch := loader.next(SHAPE)).state.drawn < at:
        pass
    (folder / "state.json").write_text(json.dumps(batch.state.to_json()))
    following = loader.next(SHAPE).sample_ids[0]
    loader.close()
    return seen[following].checksum()


def resume(folder: Path, at: int) -> Small:
    """The first sample of the first batch after the saved state; the batch is packed and collated."""
    loader, seen = _loader(folder)
    loader.restore(LoaderState.from_json(json.loads((folder / "state.json").read_text())))
    first = seen[loader.next(SHAPE).sample_ids[0]]
    loader.close()
    return first
