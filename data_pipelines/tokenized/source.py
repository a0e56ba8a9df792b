"""Tokenized shards as a source: the records of the original source, each with its codes, under its original id.

What could not be read or decoded when the shards were written is still in its place and refused with the same reason, so that numbers
of samples, and with them all draws, stay what they were.
Ours: all of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.fields import read_json, scalars
from ernie5.data_pipelines.indexed_files import IndexChanged
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.source import MAX_JSON_BYTES, MAX_MEMBER_BYTES, DamagedSample, Record
from ernie5.data_pipelines.source_indexed import IndexedSource
from ernie5.data_pipelines.source_shards import ShardSource
from ernie5.data_pipelines.tokenized.about import About
from ernie5.data_pipelines.tokenized.codes import CODES, unpack
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality
from ernie5.tokenizers.base import Quantizer

JSON = "json"
_KINDS = {modality.value: modality for modality in Modality}


@dataclass(frozen=True)
class CodedRecord(Record):
    """A stored sample whose segments have codes; members are what is kept of the media: texts, PNG of pictures, nothing of sounds."""

    codes: bytes = field(repr=False)
    about: About

    def decoded(self, limits: MediaLimits, quantizer: Quantizer | None = None) -> CodedSample:
        """Media as far as they are kept, and codes. Raises BadSample."""
        try:
            return unpack(self.id, self.attributes, self.members, self.codes, self.about.made_by, self.about.keep, limits, quantizer)
        except ValueError as error:
            raise BadSample(self.id, str(error)) from error


class TokenizedSource(IndexedSource):
    """The samples of tokenized shards, in the order of shards."""

    def __init__(self, shards: ShardSource, whole: bool) -> None:
        """`whole`: all shards of the job must be there. ValueError when they are not, or some of the shards are not tokenized."""
        super().__init__(shards.name, shards.files)
        if shards.fields:
            raise ValueError(f"data.sources.{self.name}.fields chooses segments, and those of tokenized shards are chosen; take it away")
        files = [file.shown for file in self._files.files]
        texts = [index.header.codes for index in self._files.indexes]
        if "" in texts:
            raise ValueError(f"data.sources.{self.name}: {files[texts.index('')]} is not tokenized and others beside it are; "
                             "make two sources of them")
        self.abouts = [About.parse(file, text) for file, text in zip(files, texts, strict=True)]
        if whole:
            self._check_whole(files)

    def read(self, index: int) -> CodedRecord:
        """Sample number `index`, 0 <= index < len. Raises BadSample."""
        number, row = self._files.find(index)
        shard, about = self._files.stems[number], self.abouts[number]
        key = f"({row})"
        try:
            key, entries = self._files.sample(number, row)
            data = self._files.read(number, entries, {JSON: MAX_JSON_BYTES}, MAX_MEMBER_BYTES)
            found = read_json(data.pop(JSON, b""), "its json")
            if not isinstance(found, dict) or found.get("codes") != about.stamp:
                raise ValueError("it is not of the job that wrote its shard")
            name = _name(found.get("id"))
            if "rejected" not in found:
                members = tuple(_member(segment, data) for segment in _list(found.get("segments")))
                return CodedRecord(f"{self.name}/{name}", members, scalars(found.get("attributes")), data[CODES], about)
        except (IndexChanged, ConnectionError):
            raise
        except (ValueError, OSError, KeyError, RecursionError) as error:
            raise DamagedSample(self.name, shard, key, str(error)) from error
        raise BadSample(f"{self.name}/{name}", str(found["rejected"])[:1000])

    def _check_whole(self, files: list[str]) -> None:
        """ValueError unless these are all shards of one job."""
        first = self.abouts[0]
        for file, about in zip(files, self.abouts, strict=True):
            if (about.stamp, about.shard[1]) != (first.stamp, first.shard[1]):
                raise ValueError(f"data.sources.{self.name}: {file} is of another job than {files[0]}; name each job's shards by a pattern")
        if len({about.shard[0] for about in self.abouts}) < first.shard[1]:
            raise ValueError(f"data.sources.{self.name}: {len(self.abouts)} of {first.shard[1]} shards are there; let ernie5 data tokenize "
                             "finish (the same command goes on), or name those that you want by a pattern such as *.tar")


def header(name: str, stamp: str, segments: list[dict], attributes: Mapping, rejected: str | None = None) -> bytes:
    """The JSON of a sample; `name`: its original id without that of the source."""
    what = {"segments": segments, "attributes": attributes} if rejected is None else {"rejected": rejected}
    return json.dumps({"id": name, **what, "codes": stamp}).encode()


def _name(found: object) -> str:
    if not isinstance(found, str) or not 0 < len(found) <= 600 or not found.isprintable():
        raise ValueError(f"its id is no name but {str(found)[:80]!r}")
    return found


def _list(found: object) -> list:
    if not isinstance(found, list) or not found:
        raise ValueError("its json has no list of segments")
    return found


def _member(segment: object, data: Mapping[str, bytes]) -> Member:
    modality = _KINDS.get(segment["modality"]) if isinstance(segment, dict) and isinstance(segment.get("modality"), str) else None
    if not isinstance(segment, dict) or modality is None:
        raise ValueError(f"its json names a segment {str(segment)[:80]!r}, which is no medium")
    name = segment.get("member", "")
    if not isinstance(name, str) or (name and name not in data):
        raise ValueError(f"its json names {str(name)[:80]!r}, which is not in the shard")
    return Member(modality, name.rpartition(".")[2], data[name] if name else b"")
