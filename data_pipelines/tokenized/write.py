"""Tokenizing, shard by shard: samples n * size … of a source become shard n, whoever writes it and whenever.

A sample that cannot be read, decoded or encoded keeps its place with the reason. A shard appears under its name when it is whole, its
index last; both depend on the job alone.
Ours: all of it.
"""

from __future__ import annotations

import os
import re
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from json import dumps
from pathlib import Path

from ernie5.data_pipelines.augment import View
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.indexed_files import IndexChanged
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.source import Source
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.sources import open_source
from ernie5.data_pipelines.speaker import SpeakerEncoder, load_encoder, placed_speakers
from ernie5.data_pipelines.tokenized.about import About
from ernie5.data_pipelines.tokenized.codes import CODES, Keep, pack
from ernie5.data_pipelines.tokenized.made_by import Decoding, made_by
from ernie5.data_pipelines.tokenized.source import TokenizedSource, header
from ernie5.data_pipelines.write_shards import ShardFile, index_path
from ernie5.sequence import Modality

Tell = Callable[[int], None]  # hears of samples done, bad ones as negative numbers


@dataclass(frozen=True)
class Job:
    """What is tokenized, how, and where to. `load` gives the tokenizers, in every process once; it can be sent to other processes."""

    name: str
    config: SourceConfig
    out: Path
    load: Callable[[], Tokenizers]
    decoding: Decoding
    keep: Keep = Keep()
    samples_per_shard: int = 1000

    def __post_init__(self) -> None:
        if self.samples_per_shard < 1:
            raise ValueError(f"--samples-per-shard {self.samples_per_shard} must be at least 1")

    def open(self) -> "Work":
        """Source and tokenizers. ValueError when there is no data, or it is tokenized already."""
        source = open_source(self.name, self.config, limits=self.decoding.limits, speakers=self.decoding.speaker.dim > 0)
        if isinstance(source, TokenizedSource):
            raise ValueError(f"{self.config.path} holds codes already; tokenize the shards that they were made from")
        tokenizers = self.load()
        made = {modality.value: made_by(modality, tokenizers, self.decoding) for modality in Modality}
        plan = {"made_by": made, "keep": asdict(self.keep), "source": source.fingerprint, "samples_per_shard": self.samples_per_shard}
        stamp = sha256(dumps(plan, sort_keys=True).encode()).hexdigest()[:16]
        plan |= {"num_samples": len(source), "stamp": stamp}
        return Work(self, source, Encoder(tokenizers, cache_gib=0.0), made, plan, load_encoder(self.decoding.speaker))


@dataclass(frozen=True)
class Work:
    """An opened job. `plan`: what its shards depend on, for the folder that they go to."""

    job: Job
    source: Source
    encoder: Encoder
    made: dict[str, dict]
    plan: dict
    voices: SpeakerEncoder | None = None

    @property
    def num_shards(self) -> int:
        return -(-len(self.source) // self.job.samples_per_shard)

    def tar(self, number: int) -> Path:
        """Where shard `number` goes; shards of one source sort by their numbers."""
        base = re.sub(r"[^A-Za-z0-9_-]", "_", self.job.name)[:40] or "codes"
        return self.job.out / f"{base}-{number:06d}.tar"

    def is_there(self, number: int) -> bool:
        """Whether a shard is whole."""
        return index_path(self.tar(number)).exists() and self.tar(number).exists()

    def range_of(self, number: int) -> range:
        """The numbers of the samples of a shard."""
        size = self.job.samples_per_shard
        return range(number * size, min((number + 1) * size, len(self.source)))

    def write(self, number: int, tell: Tell) -> None:
        """Write one shard, whatever lies there half done. ConnectionError, OSError, IndexChanged: it was not written."""
        tar = self.tar(number)
        for old in tar.parent.glob(f".{tar.name}.*.partial"):  # of a process that was killed
            old.unlink(missing_ok=True)
        shard = ShardFile(tar, tar.with_name(f".{tar.name}.{socket.gethostname()}-{os.getpid()}.partial"))
        about = About(self.plan["stamp"], (number, self.num_shards), self.job.keep, {})
        kinds: set[Modality] = set()
        sizes: Counter[str] = Counter()
        num_rejected = 0
        try:
            for place in self.range_of(number):
                rejected = self._add(shard, place, kinds, sizes)
                num_rejected += rejected
                tell(-1 if rejected else 1)
            made = {modality.value: self.made[modality.value] for modality in Modality if modality in kinds}
            about = replace(about, made_by=made, num_samples=len(shard), num_rejected=num_rejected, bytes=dict(sorted(sizes.items())))
            shard.finish({"codes": about.plain()})
        except BaseException:
            shard.drop()
            raise

    def _add(self, shard: ShardFile, place: int, kinds: set[Modality], sizes: Counter[str]) -> bool:
        """Append one sample; True where it is only a reason."""
        decoding, key, stamp = self.job.decoding, f"{place:09d}", self.plan["stamp"]
        name = f"({place})"
        try:
            record = self.source.read(place)
            name = self._name(record.id)
            kinds |= {member.modality for member in record.members}
            sizes["before"] += sum(len(member.data) for member in record.members)
            sample = decode_record(record, decoding.limits, decoding.sample_rate_hz, View(sizes=decoding.buckets))
            coded = self.encoder.code(placed_speakers(sample, decoding.speaker, self.voices, decoding.sample_rate_hz))
            texts = {i: m.data for i, m in enumerate(record.members) if m.modality is Modality.TEXT}
            members, segments = pack(coded, texts, self.job.keep, self.encoder.tokenizers.vision.quantizer)
        except IndexChanged:
            raise
        except ValueError as damage:
            reason = damage.reason if isinstance(damage, BadSample) else str(damage)
            name = self._name(damage.sample_id) if isinstance(damage, BadSample) else name
            shard.add(key, {"json": header(name, stamp, [], {}, reason)})
            return True
        for member, data in members.items():
            sizes["codes" if member == CODES else "texts" if member.endswith(".txt") else "pixels"] += len(data)
        shard.add(key, members | {"json": header(name, stamp, segments, record.attributes)})
        return False

    def _name(self, sample_id: str) -> str:
        """The id without the name of the source, which may be another one in training."""
        return sample_id.removeprefix(f"{self.job.name}/")
