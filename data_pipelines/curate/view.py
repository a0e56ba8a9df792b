"""One stored sample as the steps see it: its texts, and facts about its media, each worked out when a step first asks.

Only facts are kept (hashes, signatures, sizes), never pixels or samples, so a view stays small. Whatever cannot be decoded raises
BadMedia, and the sample goes to the rejects.
Letters: h w pixels, c channels, n samples of a sound.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from ernie5.data_pipelines.curate.hashing import words
from ernie5.data_pipelines.curate.media_headers import open_picture, open_sound
from ernie5.data_pipelines.curate.picture_signature import picture_signature
from ernie5.data_pipelines.decode_media import decode_member, decode_text
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.source import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality

Scope = Literal["all", "documents", "captions"]
_BLOCK = 2**16


@dataclass(frozen=True)
class Reject:
    """Why a sample is left out: a short reason that can be counted, the value that decided, and the id of what it is a copy of."""

    reason: str
    value: str | float | int | None = None
    of: str = ""


@dataclass(frozen=True)
class Picture:
    """What steps need of one image: a hash of its decoded pixels and the signature that survives recompression (uint8 `137`)."""

    digest: bytes
    signature: np.ndarray


class View:
    """The view of one record under the caps of `limits`."""

    def __init__(self, record: Record, limits: MediaLimits):
        self.record, self.limits = record, limits
        self._decoded: set[int] = set()

    @cached_property
    def media(self) -> tuple[Member, ...]:
        """The members that are not text, in order."""
        return tuple(m for m in self.record.members if m.modality is not Modality.TEXT)

    @cached_property
    def text(self) -> str:
        """All texts of the sample, one after the other; "" when it has none."""
        return "\n".join(decode_text(m.data, self.limits) for m in self.record.members if m.modality is Modality.TEXT)

    @cached_property
    def words(self) -> list[str]:
        """The normalised words of `text`."""
        return words(self.text)

    @cached_property
    def pictures(self) -> tuple[Picture, ...]:
        """One for every image, in order; decodes them at full size."""
        return tuple(self._picture(i, m) for i, m in enumerate(self.record.members) if m.modality is Modality.IMAGE)

    def in_scope(self, of: Scope) -> bool:
        """Whether a rule for texts of this kind is about this sample: "documents" have no media, "captions" stand beside some."""
        return of == "all" or (of == "captions") == bool(self.media)

    def sound_digest(self, member: Member) -> bytes:
        """A hash of the decoded samples of a sound, with its rate and channels; a WAV and its FLAC have the same one."""
        with open_sound(member.data, self.limits) as file:
            found = blake2b(f"{file.samplerate} {file.channels}".encode(), digest_size=16)
            left = file.frames
            while len(block := file.read(_BLOCK, dtype="int32", always_2d=True)):  # n c
                found.update(block.tobytes())
                left -= len(block)
            if left > 0:
                raise BadMedia(f"the sound is cut short: {left} of {file.frames} samples are missing")
        return found.digest()

    def verify(self, decode: bool) -> None:
        """Raises BadMedia unless the sample can be stored again and, with `decode`, every member that no step has decoded can be."""
        try:
            json.dumps(self.record.attributes, allow_nan=False).encode()
        except ValueError as error:
            raise BadMedia(f"its attributes cannot be stored: {error}") from error
        for i, member in enumerate(self.record.members):
            if decode and i not in self._decoded:
                try:
                    decode_member(member, self.limits)
                except BadMedia as error:
                    raise BadMedia(f"segment {i} ({member.modality.value}): {error}") from error

    def _picture(self, number: int, member: Member) -> Picture:
        with open_picture(member.data, self.limits) as opened:
            if getattr(opened, "is_animated", False) and opened.format != "MPO":
                raise BadMedia("the image is animated; convert it to a video")
            opened.load()
            image = ImageOps.exif_transpose(opened)
            # 16-bit grey is hashed as it is: in 8 bits, different pictures could become the same
            whole = image if image.mode.startswith("I") else _plain(image, "RGBA")
            found = blake2b(f"{whole.mode} {whole.size}".encode(), digest_size=16)
            found.update(whole.tobytes())
            self._decoded.add(number)
            return Picture(found.digest(), picture_signature(_plain(image, "RGB")))


def _plain(image: Image.Image, mode: str) -> Image.Image:
    """8 bits a channel; without alpha, transparent parts are white as they are for the model."""
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.float32)
        image = Image.fromarray(np.round(values.clip(0, 65535) / 257).astype(np.uint8))
    image = image.convert("RGBA")
    if mode == "RGBA":
        return image
    return Image.alpha_composite(Image.new("RGBA", image.size, (255, 255, 255, 255)), image).convert("RGB")
