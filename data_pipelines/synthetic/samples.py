"""Samples of the demo world as files: a caption with its medium, a line of text, or a document that mixes media.

A sample is a pure function of its combinations and its random generator. Most pictures are PNG, a fifth JPEG; sounds are FLAC, a
tenth WAV; clips are MP4. A document is told in order: a text stands before the medium it announces, or after the one it is about.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ernie5.data_pipelines.synthetic.captions import caption
from ernie5.data_pipelines.synthetic.combinations import Combination
from ernie5.data_pipelines.synthetic.encode_media import encode_flac, encode_jpeg, encode_mp4, encode_png, encode_wav
from ernie5.data_pipelines.synthetic.render_clip import FRAME_RATE_HZ, render_clip
from ernie5.data_pipelines.synthetic.render_image import render_image
from ernie5.data_pipelines.synthetic.render_sound import SAMPLE_RATE_HZ, render_sound
from ernie5.data_pipelines.synthetic.text_corpus import text_line
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality

JPEG_SHARE, WAV_SHARE = 0.2, 0.1
DOCUMENTS = (  # "announce" and "recall" are texts about the next and the last medium
    ("announce", "image", "announce", "audio"),
    ("announce", "video", "announce", "image", "recall"),
    ("image", "recall", "audio", "recall"),
    ("announce", "audio", "announce", "video"),
    ("video", "recall", "announce", "image"),
    ("announce", "image", "audio", "recall"),
)
ANNOUNCE = {"image": "here is a picture of {}.", "video": "here is a clip in which {}.", "audio": "here is the sound of {}."}
RECALL = {"image": "the picture showed {}.", "video": "the clip showed how {}.", "audio": "the sound was {}."}


@dataclass(frozen=True)
class StoredSample:
    """What a shard stores of one sample: its files in order, and what is true of it."""

    members: tuple[Member, ...]
    attributes: dict[str, str]


def captioned_sample(combination: Combination, generator: np.random.Generator) -> StoredSample:
    """Segments [caption, medium]; attributes `kind` and every attribute of the combination."""
    members = (_text(caption(combination)), medium(combination, generator))
    return StoredSample(members, {"kind": combination.kind, **combination.attributes})


def text_sample(pools: Mapping[str, Sequence[Combination]], generator: np.random.Generator) -> StoredSample:
    """One segment: a line of plain text."""
    return StoredSample((_text(text_line(pools, generator)),), {"kind": "text"})


def document_sample(pools: Mapping[str, Sequence[Combination]], generator: np.random.Generator) -> StoredSample:
    """Text mixed with media. Attributes: `kind`, and `{segment}.{attribute}` for the medium at each segment."""
    plan = DOCUMENTS[generator.integers(len(DOCUMENTS))]
    told = {i: pools[part][int(generator.integers(len(pools[part])))] for i, part in enumerate(plan) if part in pools}
    members, attributes = [], {"kind": "document"}
    for i, part in enumerate(plan):
        if part == "announce":
            members.append(_text(ANNOUNCE[told[i + 1].kind].format(caption(told[i + 1]))))
        elif part == "recall":
            members.append(_text(RECALL[told[i - 1].kind].format(caption(told[i - 1]))))
        else:
            members.append(medium(told[i], generator))
            attributes |= {f"{i}.{name}": value for name, value in told[i].attributes.items()}
    return StoredSample(tuple(members), attributes)


def medium(combination: Combination, generator: np.random.Generator) -> Member:
    """Render a combination and encode it in one of the formats of its kind."""
    match combination.kind:
        case "image":
            picture = render_image(combination, generator)
            if generator.random() < JPEG_SHARE:
                return Member(Modality.IMAGE, "jpg", encode_jpeg(picture))
            return Member(Modality.IMAGE, "png", encode_png(picture))
        case "video":
            return Member(Modality.VIDEO, "mp4", encode_mp4(render_clip(combination, generator), FRAME_RATE_HZ))
        case "audio":
            wave = render_sound(combination, generator)
            if generator.random() < WAV_SHARE:
                return Member(Modality.AUDIO, "wav", encode_wav(wave, SAMPLE_RATE_HZ))
            return Member(Modality.AUDIO, "flac", encode_flac(wave, SAMPLE_RATE_HZ))
    raise AssertionError(combination.kind)


def _text(line: str) -> Member:
    return Member(Modality.TEXT, "txt", line.encode("utf-8"))
