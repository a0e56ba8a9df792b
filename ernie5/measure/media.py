"""The media to measure on: a folder of files, shards, or the held-out sources of a run; read by the decoders that training uses.

    pictures   `size` None: as they are, cut at the centre to multiples of the stride; longer than `longest`: shrunk first. Else that size
    clips      the same, of the first `num_frames` at `fps`, as whole temporal strides
    sounds     the first `seconds`, mono, at the codec's rate
What cannot be decoded is listed with its reason, and nothing else happens to it.
Ours. Letters: t frames, h w pixels, n samples.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from io import BytesIO
from itertools import zip_longest
from pathlib import Path
from typing import Any

import av
from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.augment import View
from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.decode_video import DEMUXERS
from ernie5.data_pipelines.folder_samples import plan_folder, read_member
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize
from ernie5.data_pipelines.picture_crop import Crop
from ernie5.data_pipelines.sniff_media import sniff
from ernie5.data_pipelines.sources import SUFFIXES, Source, SourceConfig, open_source
from ernie5.data_pipelines.write_shards import MODALITY_OF_EXTENSION, Member
from ernie5.sequence import Modality

TURNED = (5, 6, 7, 8)  # EXIF orientations whose sides swap
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Medium:
    """One decoded medium and where it comes from."""

    name: str
    modality: Modality
    media: Any           # str, uint8 t 3 h w, float n
    num_bytes: int       # of the file


@dataclass(frozen=True)
class Shape:
    """How media are brought into the tokenizer's form."""

    size: VisionSize | None = None
    longest: int = 512
    stride: int = 1
    temporal_stride: int | None = None    # None: as the limits say
    sample_rate_hz: int = 16_000


@dataclass
class Rejected:
    """What could not be used."""

    reasons: list[tuple[str, str]] = field(default_factory=list)

    def add(self, name: str, reason: str) -> None:
        if all(known != name for known, _ in self.reasons):
            self.reasons.append((name, reason))

    def taken(self, media: Iterable[Medium], measure: Callable[[Medium], object]) -> Iterator[Medium]:
        """`measure` each; those that the tokenizer takes. What it refuses is listed."""
        for medium in media:
            try:
                measure(medium)
            except ValueError as error:
                self.add(medium.name, f"the tokenizer refuses it: {error}")
            else:
                yield medium


class MediaSet:
    """Members by modality, decoded when asked for."""

    def __init__(self, limits: MediaLimits) -> None:
        self.limits, self.rejected = limits, Rejected()
        self._places: list[list[tuple[str, set[Modality] | None, Any]]] = []  # of each source

    def add_path(self, path: str) -> None:
        """A folder, a file, a pattern or a URL. ValueError when nothing is there."""
        where = Path(path)
        if "://" in path or not where.exists() or _holds_shards(where):
            self.add_source(open_source("media", SourceConfig(path), limits=self.limits))
            return
        folder = where if where.is_dir() else where.parent
        plan = plan_folder(folder, self.limits)
        for name, reason in plan.rejected:
            if where.is_dir() or name == where.name:
                self.rejected.add(name, reason)
        places: list[tuple[str, set[Modality] | None, Any]] = []
        for sample in plan.samples:
            for part in sample.parts:
                if where.is_dir() or str(part) == where.name:
                    kind = Modality.TEXT if isinstance(part, str) else MODALITY_OF_EXTENSION[part.suffix[1:].lower()]
                    name = sample.name if isinstance(part, str) else str(part)
                    places.append((name, {kind}, (folder, part)))
        self._places.append(places)

    def add_source(self, source: Source) -> None:
        """All samples of an opened source."""
        for where, reason in source.problems:
            if not where.endswith("/(ignored)"):
                self.rejected.add(where, reason)
        self._places.append([(f"{source.name}/{i}", None, (source, i)) for i in range(len(source))])

    def media(self, kinds: set[Modality], shape: Shape, at_most: int) -> Iterator[Medium]:
        """Up to `at_most` media of these kinds, sources in turn, spread evenly over each."""
        sources = [[place for place in places if place[1] is None or place[1] & kinds] for places in self._places]
        turns = zip_longest(*(_spread(places, at_most) for places in sources))
        found = 0
        for name, _, place in (place for turn in turns for place in turn if place is not None):
            if found == at_most:
                return
            for member_name, member in self._members(name, place):
                if member.modality in kinds and found < at_most:
                    try:
                        medium = decode(member, self.limits, shape)
                    except BadMedia as error:
                        self.rejected.add(member_name, str(error))
                        continue
                    found += 1
                    yield Medium(member_name, member.modality, medium, len(member.data))

    def _members(self, name: str, place: Any) -> list[tuple[str, Member]]:
        try:
            if isinstance(place[0], Path):
                return [(name, read_member(place[0], place[1], self.limits))]
            record = place[0].read(place[1])
            kinds = [member.modality for member in record.members]
            numbers = [f"#{kinds[:i].count(kind) + 1}" if kinds.count(kind) > 1 else "" for i, kind in enumerate(kinds)]
            return [(f"{record.id}{n}.{m.extension}", m) for n, m in zip(numbers, record.members, strict=True)]
        except ValueError as error:  # a damaged record, or a file that cannot be read
            self.rejected.add(name, str(error))
            return []


def decode(member: Member, limits: MediaLimits, shape: Shape) -> str | Tensor:
    """One member in the tokenizer's form. Raises BadMedia."""
    if member.modality is Modality.IMAGE:
        size, crop = (shape.size, Crop()) if shape.size else _native(_picture_size(member.data), shape)
        return decode_member(member, replace(limits, image_size=size), shape.sample_rate_hz, View(crop=crop))
    if member.modality is Modality.VIDEO:
        size, crop = (shape.size, Crop()) if shape.size else _native(_clip_size(member.data, limits), shape)
        every = shape.temporal_stride or limits.temporal_stride
        frames = 1 + every * max(1, (limits.num_frames - 1) // every)
        fitting = replace(limits, video_size=size, temporal_stride=every, num_frames=frames)
        return decode_member(member, fitting, shape.sample_rate_hz, View(crop=crop))
    return decode_member(member, limits, shape.sample_rate_hz)


def _native(found: tuple[int, int] | None, shape: Shape) -> tuple[VisionSize, Crop]:
    """(height, width) -> the size in whole strides, and the window of exactly these pixels where nothing is shrunk."""
    height, width = found or (shape.stride, shape.stride)  # what cannot be read is refused by the decoder, with its reason
    shrink = min(1.0, shape.longest / max(height, width))
    inside = [int(side * shrink + 1e-6) // shape.stride * shape.stride for side in (height, width)]
    if min(inside) < 1:
        raise BadMedia(f"{height} x {width} pixels, at most {shape.longest} a side, leave no cell of stride {shape.stride}")
    size = VisionSize(*inside)
    if shrink < 1:
        return size, Crop()
    gaps = height - size.height, width - size.width
    y, x = (gap // 2 / gap if gap else 0.5 for gap in gaps)
    zoom = max(size.height / height, size.width / width)  # the largest window of this aspect touches one side
    return size, Crop(zoom=min(1.0, zoom), x=x, y=y)


def _picture_size(data: bytes) -> tuple[int, int] | None:
    try:
        with Image.open(BytesIO(data), formats=("JPEG", "PNG", "WEBP")) as image:
            turned = int(image.getexif().get(ORIENTATION, 1)) in TURNED
            return (image.width, image.height) if turned else (image.height, image.width)
    except Exception:
        return None


def _clip_size(data: bytes, limits: MediaLimits) -> tuple[int, int] | None:
    """Of the first frame, upright, as many rows as are stored."""
    options = {"max_pixels": str(limits.max_pixels), "threads": "1"}
    try:
        with av.open(BytesIO(data), format=DEMUXERS[sniff(data)], options=options) as container:  # no other reader may be guessed
            stream = container.streams.video[0]
            stream.codec_context.options = options
            frame = next(container.decode(stream))
            size = frame.height, round(frame.width * float(stream.sample_aspect_ratio or 1))
            return size[::-1] if round(getattr(frame, "rotation", 0)) % 180 else size
    except Exception:
        return None


def _holds_shards(path: Path) -> bool:
    return path.name.endswith(SUFFIXES) if path.is_file() else any(f.name.endswith(SUFFIXES) for f in path.iterdir())


def _spread(places: list, at_most: int) -> list:
    """All of them, those that are spread evenly first, so that damaged ones can be replaced."""
    if len(places) <= at_most:
        return places
    first = [i * len(places) // at_most for i in range(at_most)]
    chosen = set(first)
    return [places[i] for i in first] + [place for i, place in enumerate(places) if i not in chosen]
