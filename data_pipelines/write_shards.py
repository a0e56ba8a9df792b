"""Shards out: whole samples in POSIX tar files, each with an index that finds a sample in O(1) and notices damage.

    {name}-000000.tar            {key}.0.txt  {key}.1.png  …  {key}.json     (any webdataset reader understands it)
                                 {key}.2.wav  {key}.2.speaker.npy            (who speaks, where it is known)
    {name}-000000.index.json     {"crc32": of the rest, "format": 1, "tar": …, "size": bytes, "samples": [{"key": …, "members": [
                                     {"name": "0.txt", "offset": …, "length": …, "crc32": …}, …]}, …]}
    {key}.json                   {"segments": [{"modality": "text", "member": "0.txt"}, …], "attributes": {…}}

The same samples give the same bytes (no times, no users). The tar appears under its name only when it is complete, and the
index is written last: a shard with an index is a whole shard.
Ours: the layout; the report does not describe its storage.
"""

from __future__ import annotations

import json
import os
import re
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from ernie5.run.files import atomic_write, sync_folder
from ernie5.sequence import Modality

INDEX_FORMAT = 1
_KEY = re.compile(r"[A-Za-z0-9_-]{1,64}")  # no dot: webdataset ends the key at the first one; short: the name fits a plain header
SPEAKER = "speaker.npy"
_EXTENSION = re.compile(r"[a-z0-9]{1,8}")

# which modality a file's ending announces; the decoders look at the bytes, not at the name
MODALITY_OF_EXTENSION = {
    "txt": Modality.TEXT,
    **dict.fromkeys(("jpg", "jpeg", "png", "webp"), Modality.IMAGE),
    **dict.fromkeys(("mp4", "m4v", "mov", "webm", "mkv", "avi"), Modality.VIDEO),
    **dict.fromkeys(("wav", "flac", "ogg", "opus", "mp3"), Modality.AUDIO),
}


@dataclass(frozen=True)
class Member:
    """One segment of a stored sample: the file as it came, still encoded. `extension` without the dot, lower case. `speaker`: of a sound,
    the .npy file that says who speaks (speaker.py).
    """

    modality: Modality
    extension: str
    data: bytes
    speaker: bytes | None = None


def speaker_of(name: str, data: Mapping[str, bytes]) -> bytes | None:
    """What lies beside the sound `name` of a sample: for `1.wav` it is `1.speaker.npy`, else `speaker.npy`; None when neither is there."""
    return data.get(f"{name.rpartition('.')[0]}.{SPEAKER}", data.get(SPEAKER))


def index_path(tar: Path) -> Path:
    """Where the index of a shard lives: `a/b-000000.tar` -> `a/b-000000.index.json`."""
    return tar.with_suffix(".index.json")


class ShardFile:
    """One shard in the making. Nothing stands at `path` before `finish`; `drop` leaves nothing behind."""

    def __init__(self, path: Path, partial: Path | None = None) -> None:
        """`partial`: where it grows, beside `path`."""
        self.path, self.partial = path, partial or Path(f"{path}.partial")
        self._tar = tarfile.open(self.partial, "w", format=tarfile.USTAR_FORMAT)
        self._samples: list[dict] = []

    def __len__(self) -> int:
        return len(self._samples)

    def add(self, key: str, members: Mapping[str, bytes]) -> None:
        """Append one sample: members by what follows the key in their names, in order."""
        self._samples.append({"key": key, "members": [self._add(key, name, data) for name, data in members.items()]})

    def finish(self, about: Mapping[str, object] | None = None) -> None:
        """The tar appears, then its index, with `about` as further entries."""
        self._tar.close()
        with open(self.partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(self.partial, self.path)
        sync_folder(self.path.parent)
        index = {"format": INDEX_FORMAT, "tar": self.path.name, "size": self.path.stat().st_size, **(about or {}), "samples": self._samples}
        text = json.dumps(index, separators=(",", ":")).encode()[1:]
        atomic_write(index_path(self.path), b'{"crc32":%d,%b' % (zlib.crc32(text), text))

    def drop(self) -> None:
        """Give it up."""
        self._tar.fileobj.close()
        self.partial.unlink(missing_ok=True)

    def _add(self, key: str, name: str, data: bytes) -> dict:
        info = tarfile.TarInfo(f"{key}.{name}")  # mtime, uid and gid are 0, mode 0644
        info.size = len(data)
        offset = self._tar.offset + tarfile.BLOCKSIZE  # a name this short always takes one header block
        self._tar.addfile(info, BytesIO(data))
        return {"name": name, "offset": offset, "length": len(data), "crc32": zlib.crc32(data)}


class ShardWriter:
    """Writes samples into numbered shards; use it as a context manager.

    An exception inside the `with` block drops the unfinished shard; finished ones stay.
    """

    def __init__(self, folder: str | Path, name: str, samples_per_shard: int = 1000, overwrite: bool = False):
        """Shards become `folder/name-000000.tar` ….

        Raises ValueError for a bad name or size, or when shards of this name exist and `overwrite` is False: old and new shards
        side by side would be read as one data set.
        """
        if not _KEY.fullmatch(name):
            raise ValueError(f"shard name {name!r} may only hold letters, digits, '-' and '_' (1 to 64 of them); rename it")
        if samples_per_shard < 1:
            raise ValueError(f"samples_per_shard = {samples_per_shard} must be at least 1")
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.name = name
        self.samples_per_shard = samples_per_shard
        self.shards: list[Path] = []
        self._keys: set[str] = set()
        self._shard: ShardFile | None = None
        old = sorted(p for p in self.folder.iterdir() if re.fullmatch(re.escape(name) + r"-\d{6}\.(tar|index\.json)(\.partial)?", p.name))
        if any(p.suffix != ".partial" for p in old) and not overwrite:
            raise ValueError(f"{self.folder} already holds shards named {name!r} ({old[0].name}, …); "
                             "use another folder or name, or remove them (overwrite=True does)")
        for path in old:
            path.unlink()

    def write(self, key: str, members: Sequence[Member], attributes: Mapping[str, str | int | float | bool | None]) -> None:
        """Append one sample. `key` is unique among all shards of this writer; the order of `members` is the order of segments.

        Raises ValueError for a key or extension that cannot be stored, a repeated key, no members, or attributes that are not JSON.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"sample key {key!r} may only hold letters, digits, '-' and '_' (1 to 64 of them); rename it")
        if key in self._keys:
            raise ValueError(f"sample key {key!r} is written twice; give every sample its own key")
        if not members:
            raise ValueError(f"sample {key!r} has no members; a sample needs at least one segment")
        for member in members:
            if not _EXTENSION.fullmatch(member.extension):
                raise ValueError(f"extension {member.extension!r} of sample {key!r} must be 1 to 8 letters or digits in lower case, no dot")
        for name, value in attributes.items():
            if not isinstance(name, str) or not isinstance(value, str | int | float | bool | None):
                raise ValueError(f"attribute {name!r} of sample {key!r} must be text, a number, a bool or None, not {type(value).__name__}")
        names = [f"{i}.{member.extension}" for i, member in enumerate(members)]
        segments = [{"modality": Modality(m.modality).value, "member": name} for m, name in zip(members, names, strict=True)]
        try:
            header = json.dumps({"segments": segments, "attributes": attributes}, ensure_ascii=False, allow_nan=False).encode()
        except ValueError as error:  # NaN, infinity, half a surrogate pair
            raise ValueError(f"attributes of sample {key!r} cannot be stored as JSON: {error}") from error
        stored: dict[str, bytes] = {}
        for name, member in zip(names, members, strict=True):
            stored[name] = member.data
            if member.speaker is not None:
                stored[f"{name.partition('.')[0]}.{SPEAKER}"] = member.speaker
        if self._shard is None:
            self._shard = ShardFile(self.folder / f"{self.name}-{len(self.shards):06d}.tar")
        self._shard.add(key, stored | {"json": header})
        self._keys.add(key)
        if len(self._shard) == self.samples_per_shard:
            self.close()

    def close(self) -> None:
        """Finish the last shard."""
        if self._shard is not None:
            self._shard.finish()
            self.shards.append(self._shard.path)
            self._shard = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        elif self._shard is not None:
            self._shard.drop()
            self._shard = None
