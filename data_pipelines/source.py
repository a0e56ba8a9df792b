"""What every source of data is: numbered records of encoded media, fingerprints of what they come from, and errors that name the sample.

    source = open_source("captions", SourceConfig("data/captions"))      (sources.py; one file per kind: source_shards, _jsonl, _parquet)
    len(source);  source.read(17) -> Record(id="captions/train-000003/00017", …)

A record that cannot be trusted raises `DamagedSample`: a source never gives part of a sample, nor another one's bytes. `fingerprints`
change when data was rewritten, so that a resumed run can refuse other data (`check_unchanged`).
Ours: all of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.write_shards import Member

MAX_MEMBER_BYTES = 2**28
MAX_JSON_BYTES = 2**22
Attributes = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Record:
    """A stored sample before decoding. `id` = `source/shard/key`; `members` in the order of the document."""

    id: str
    members: tuple[Member, ...]
    attributes: Attributes


class DamagedSample(BadSample):
    """A stored sample whose bytes are missing or not those that were written."""

    def __init__(self, source: str, shard: str, key: str, reason: str):
        super().__init__(f"{source}/{shard}/{key}", reason)
        self.source, self.shard, self.key = source, shard, key

    def __reduce__(self):
        return type(self), (self.source, self.shard, self.key, self.reason)


class Source(Protocol):
    """One named source. It may be used by several threads, and be copied to worker processes."""

    name: str
    fingerprints: dict[str, str]
    problems: list[tuple[str, str]]

    def __len__(self) -> int:
        """Number of samples; damaged ones count, because only reading tells."""

    def read(self, index: int) -> Record:
        """Sample number `index`, 0 <= index < len, in O(1). Raises DamagedSample; ConnectionError when a remote one is out of reach."""

    @property
    def fingerprint(self) -> str:
        """One hash over `fingerprints`, which has one per file."""

    def check_unchanged(self, fingerprints: Mapping[str, str]) -> None:
        """Raises ValueError that names a file when these fingerprints, from an earlier start of the run, are not those of now."""
