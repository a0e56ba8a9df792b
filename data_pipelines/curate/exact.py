"""Exact duplicates: samples whose normalised text, or whose media, are the same. The first in the order of the source stays.

    by: sample    all segments, in order          media: bytes     the files are the same
        text      the texts only                         pixels    the decoded image or sound is the same (a PNG and its copy with
        media     the media only                                   other compression, a WAV and its FLAC); clips by their bytes

Memory of the decision: about 100 bytes a sample, 16 of them the hash. Ours: all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import blake2b
from typing import Literal

import numpy as np

from ernie5.data_pipelines.curate.copies import Copies
from ernie5.data_pipelines.curate.hashing import normalise
from ernie5.data_pipelines.curate.view import View
from ernie5.data_pipelines.decode_media import decode_text
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality

_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Exact:
    """What must be the same."""

    by: Literal["sample", "text", "media"] = "sample"
    media: Literal["bytes", "pixels"] = "bytes"


def sign(view: View, rule: Exact) -> np.ndarray:
    """The hash of what is compared: uint8 `1 16`, or `0 16` for a sample that has nothing of it. Raises BadMedia."""
    pictures = iter(view.pictures if rule.media == "pixels" and rule.by != "text" else ())
    found = blake2b(digest_size=_DIGEST_BYTES)
    count = 0
    for member in view.record.members:
        if member.modality is Modality.TEXT:
            if rule.by == "media":
                continue
            content = normalise(decode_text(member.data, view.limits)).encode("utf-8", "surrogatepass")
        elif rule.by == "text":
            continue
        elif rule.media == "pixels" and member.modality is Modality.IMAGE:
            content = next(pictures).digest
        else:
            content = _content(view, member, rule)
        found.update(f"{member.modality.value} {len(content)} ".encode())  # where one ends and the next begins
        found.update(content)
        count += 1
    return np.frombuffer(found.digest() if count else b"", np.uint8).reshape(-1, _DIGEST_BYTES)


def find_copies(rows: np.ndarray, owner: np.ndarray) -> Copies:
    """Hashes `n 16` of samples `owner` (`n`, rising) -> all but the first of each kind."""
    keys = np.ascontiguousarray(rows).view([("a", "<u8"), ("b", "<u8")])[:, 0]
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    original = first[which.ravel()]
    copy = np.flatnonzero(original != np.arange(len(keys)))
    return Copies(owner[copy], owner[original[copy]], np.ones(len(copy)))


def _content(view: View, member: Member, rule: Exact) -> bytes:
    if rule.media == "pixels" and member.modality is Modality.AUDIO:
        return view.sound_digest(member)
    return blake2b(member.data, digest_size=_DIGEST_BYTES).digest()
