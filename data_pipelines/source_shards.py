"""Samples of tar shards: ours, which say what their segments are, and other people's webdataset tars.

    source = ShardSource("captions", "data/captions");  len(source);  source.read(17) -> Record(id="captions/train-000003/00017", …)

Without `fields`, a sample whose `json` names segments has those; any other has its text first, then images, clips and sounds, by their
endings. Ours: all of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ernie5.data_pipelines.data_files import DataFile, LocalFile, local_files
from ernie5.data_pipelines.fields import parse_fields, read_json, scalars
from ernie5.data_pipelines.index_file import Entry
from ernie5.data_pipelines.indexed_files import IndexChanged, IndexedFiles
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.shard_index import shard_index
from ernie5.data_pipelines.source import MAX_JSON_BYTES, MAX_MEMBER_BYTES, Attributes, DamagedSample, Record
from ernie5.data_pipelines.source_indexed import IndexedSource
from ernie5.data_pipelines.speaker import MAX_BYTES
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION, SPEAKER, Member, speaker_of
from ernie5.sequence import Modality

SUFFIX = ".tar"
_ORDER = {modality: i for i, modality in enumerate(Modality)}
_MODALITIES = {modality.value: modality for modality in Modality}
_JSON = "its json"


class ShardSource(IndexedSource):
    """The samples of some shards, in the order of shard names, then of the shard."""

    def __init__(self, name: str, paths: str | Path | Sequence[str | Path | DataFile], quarantine: Quarantine | None = None,
                 max_member_bytes: int = MAX_MEMBER_BYTES, fields: Sequence[str] = (), limits: MediaLimits | None = None,
                 speakers: bool = True):
        """`paths`: tar files, folders with tar files, or patterns like `data/train-*.tar`, one or several. `fields`: see fields.py.
        `limits`: what is above them is not read; `max_member_bytes` is for members whose kind only the sample's own json may know.
        `speakers`: whether speaker vectors beside sounds are read; else they are members that nobody knows.

        What is wrong with a whole shard (a cut tail, unsafe names) is in `problems` and logged as warnings in `quarantine`.
        Raises ValueError when a path holds no shard, or a shard cannot be read as a tar.
        """
        self.max_member_bytes = max_member_bytes
        self.fields = parse_fields(name, fields)
        self._wanted = {n for field in self.fields for n in field.names}
        self._kinds = {n: field.modality for field in self.fields if not field.key for n in field.names}
        self._limits, self._speakers = limits, speakers
        files: list[DataFile] = []
        for path in [paths] if isinstance(paths, str | Path) else paths:
            if isinstance(path, str | Path):
                _no_lost_index(Path(path))
                files += local_files(name, [path], (SUFFIX,))
            else:
                files.append(path)
        super().__init__(name, IndexedFiles(name, files, shard_index, quarantine))

    @property
    def files(self) -> IndexedFiles:
        """The files behind it."""
        return self._files

    @property
    def tokenized(self) -> bool:
        """Whether an index says that its shard holds codes (tokenized/source.py reads them)."""
        return any(index.header.codes for index in self._files.indexes)

    @property
    def shards(self) -> list[Path]:
        """The tars, where they are files on this machine."""
        return [file.path for file in self._files.files if isinstance(file, LocalFile)]

    def read(self, index: int) -> Record:
        """Sample number `index`, 0 <= index < len. Raises DamagedSample."""
        number, row = self._files.find(index)
        shard = self._files.stems[number]
        try:
            key, entries = self._files.sample(number, row)
        except (IndexChanged, ConnectionError):
            raise
        except (ValueError, OSError) as error:
            raise DamagedSample(self.name, shard, f"({row})", str(error)) from error
        try:
            needed = self._needed(entries)
            if self._limits is not None:
                self._refuse_large(needed, self._limits)
            data = self._files.read(number, needed, self._caps(needed), self.max_member_bytes)
            if not self._speakers:
                data = {name: part for name, part in data.items() if not is_speaker(name)}
            members, attributes = self._chosen(data) if self.fields else _layout(data)
        except ConnectionError:
            raise
        except (ValueError, OSError, RecursionError) as error:
            raise DamagedSample(self.name, shard, key, str(error)) from error
        return Record(f"{self.name}/{shard}/{key}", members, attributes)

    def _needed(self, entries: list[Entry]) -> list[Entry]:
        if not self.fields:
            return entries
        return [e for e in entries if e.name in self._wanted or e.name == "json" or (self._speakers and is_speaker(e.name))]

    def _caps(self, entries: list[Entry]) -> dict[str, int]:
        return {"json": MAX_JSON_BYTES} | {e.name: MAX_BYTES for e in entries if self._speakers and is_speaker(e.name)}

    def _refuse_large(self, entries: list[Entry], limits: MediaLimits) -> None:
        """ValueError for a text, image, clip or sound that a decoder would refuse for its bytes."""
        smallest = min(limits.max_bytes, limits.max_text_bytes)
        if all(length <= smallest for _, _, length, _ in entries):
            return
        there = [e.name for e in entries]
        used = {next((n for n in field.names if n in there), "") for field in self.fields} if self.fields else set(there)
        for name, _, length, _ in entries:
            kind = self._kinds.get(name) or MODALITY_OF_EXTENSION.get(name.rpartition(".")[2])
            limit = "max_text_bytes" if kind is Modality.TEXT else "max_bytes"
            if kind is not None and name in used and length > getattr(limits, limit):
                raise ValueError(f"{name} has {length} bytes, more than data.limits.{limit} = {getattr(limits, limit)}")

    def _chosen(self, data: dict[str, bytes]) -> tuple[tuple[Member, ...], Attributes]:
        """Segments and attributes as `fields` say."""
        parsed = {name: read_json(part, f"its {name}") for name, part in data.items() if name.rpartition(".")[2] == "json"}
        members = tuple(member for field in self.fields for member in field.members(data, parsed))
        return members, scalars(parsed.get("json"), [field.key for field in self.fields])


def is_speaker(name: str) -> bool:
    """Whether a member says who speaks in the sound beside it."""
    return name == SPEAKER or name.endswith(f".{SPEAKER}")


def _layout(data: dict[str, bytes]) -> tuple[tuple[Member, ...], Attributes]:
    """Segments and attributes: as `json` says, where it has segments; by the endings of names otherwise."""
    header = read_json(data["json"], _JSON) if "json" in data else {}
    if isinstance(header, dict) and "segments" in header:
        if "codes" in header:
            raise ValueError("it was written by ernie5 data tokenize, and its shard has lost the index that says what made its codes")
        if not isinstance(header["segments"], list):
            raise ValueError("its json has segments that are no list")
        members = tuple([_member(segment, data) for segment in header["segments"]])
        attributes = header.get("attributes", {})
    else:
        found = [_known(MODALITY_OF_EXTENSION[e], n, data) for n in data if (e := n.rpartition(".")[2]) in MODALITY_OF_EXTENSION]
        members = tuple(sorted(found, key=lambda m: _ORDER[m.modality]))
        attributes = header
    if not members:
        raise ValueError(f"it has no member of a known kind; it has {', '.join(data)[:80] or 'none'}")
    return members, scalars(attributes)


def _member(segment: object, data: dict[str, bytes]) -> Member:
    name = segment.get("member") if isinstance(segment, dict) else None
    if not isinstance(segment, dict) or not isinstance(name, str) or name not in data or name == "json":
        raise ValueError(f"its json names the segment {str(segment)[:80]!r}, which is not in the shard")
    modality = _MODALITIES.get(segment["modality"]) if isinstance(segment.get("modality"), str) else None
    if modality is None:
        raise ValueError(f"its json names a medium {str(segment.get('modality'))[:80]!r}, which is none of {', '.join(_MODALITIES)}")
    return _known(modality, name, data)


def _known(modality: Modality, name: str, data: dict[str, bytes]) -> Member:
    return Member(modality, name.rpartition(".")[2], data[name], speaker_of(name, data) if modality is Modality.AUDIO else None)


def _no_lost_index(path: Path) -> None:
    """ValueError when a folder has the index of a shard that is gone."""
    lost = sorted(p.name for p in path.glob("*.index.json") if not (path / p.name.replace(".index.json", ".tar")).exists()) \
        if path.is_dir() else []
    if lost:
        raise ValueError(f"data.sources: {path / lost[0]} has no tar beside it; restore the shard or delete its index")
