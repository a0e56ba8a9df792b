"""Write the demo world: captioned pictures, clips and sounds, plain text and mixed documents, in shards of real files.

    folder/train/{image,video,audio,text,document}-000000.tar …     training combinations only
    folder/heldout/{image,video,audio,text}-000000.tar …            held-out combinations only
    folder/demo.json                                                the settings, written last
The same settings give the same bytes. Every combination of a split occurs equally often (give or take one), in random order.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ernie5.data_pipelines.synthetic.combinations import KINDS, Combination, split_combinations
from ernie5.data_pipelines.synthetic.samples import StoredSample, captioned_sample, document_sample, text_sample
from ernie5.data_pipelines.write_shards import ShardWriter
from ernie5.run.progress import progress
from ernie5.run.random_streams import stream


@dataclass(frozen=True)
class DemoConfig:
    """How much to write. `num_heldout` counts pictures, clips, sounds and text lines each."""

    num_images: int = 2000
    num_clips: int = 800
    num_sounds: int = 1500
    num_texts: int = 600
    num_documents: int = 200
    num_heldout: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value < 0:
                raise ValueError(f"{name} = {value} must not be negative; use 0 to leave this part out")


@dataclass(frozen=True)
class DemoSummary:
    """What was written: samples per shard name ("train/image": 2000, ...), bytes of all shards and seconds spent."""

    folder: Path
    num_samples: dict[str, int]
    num_bytes: int
    spent_s: float


def write_demo(folder: Path | str, config: DemoConfig = DemoConfig()) -> DemoSummary:
    """Write the demo world below `folder`. Raises ValueError where shards lie already."""
    folder, started = Path(folder), time.monotonic()
    splits = {kind: split_combinations(kind, config.seed) for kind in KINDS}
    pools = {
        "train": {kind: split.train for kind, split in splits.items()},
        "heldout": {kind: split.heldout for kind, split in splits.items()},
    }
    counts = {
        "train/image": config.num_images, "train/video": config.num_clips, "train/audio": config.num_sounds,
        "train/text": config.num_texts, "train/document": config.num_documents,
        **{f"heldout/{kind}": config.num_heldout for kind in (*KINDS, "text")},
    }
    shards: list[Path] = []
    with progress("demo world", total=sum(counts.values())) as bar:
        for name, num_samples in counts.items():
            part, kind = name.split("/")
            with ShardWriter(folder / part, kind) as writer:
                for i, sample in enumerate(_samples(part, kind, num_samples, pools[part], config.seed)):
                    writer.write(f"{kind}-{i:06d}", sample.members, sample.attributes)
                    bar.advance(1, part=name)
            shards += writer.shards
    settings = json.dumps({"config": asdict(config), "num_samples": counts}, indent=1)
    (folder / "demo.json").write_text(settings + "\n", encoding="utf-8")
    return DemoSummary(folder, counts, sum(shard.stat().st_size for shard in shards), time.monotonic() - started)


def _samples(part: str, kind: str, num_samples: int, pools: dict[str, tuple[Combination, ...]], seed: int) -> Iterator[StoredSample]:
    """Every sample has its own random stream, so that a longer run of them starts with the shorter one."""
    for i in range(num_samples):
        generator = stream(seed, "demo", part, kind, i)
        match kind:
            case "text":
                yield text_sample(pools, generator)
            case "document":
                yield document_sample(pools, generator)
            case _:
                yield captioned_sample(_turn(pools[kind], i, stream(seed, "demo order", part, kind, i // len(pools[kind]))), generator)


def _turn(pool: tuple[Combination, ...], i: int, generator: np.random.Generator) -> Combination:
    """Whose turn it is: each round of `len(pool)` samples shows every combination once, in an order of its own."""
    return pool[generator.permutation(len(pool))[i % len(pool)]]
