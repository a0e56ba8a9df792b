"""One stored sample, looked at in full: every checksum, every member decoded under the limits, and facts from the headers.

    examine(record, limits) -> Facts        BadSample where a member cannot be decoded

Seconds, pixels and bytes are those of the files, before anything is cut or scaled for the model.
Ours: all of it.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass, replace

from ernie5.data_pipelines.augment import PLAIN, View
from ernie5.data_pipelines.curate.media_headers import open_picture, open_sound, read_clip_header
from ernie5.data_pipelines.decode_media import decode_record
from ernie5.data_pipelines.directions import direction
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.sniff_media import sniff
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality, Sample

MAX_GUESSED = 4096  # characters of a text whose script and language are looked at


@dataclass(frozen=True)
class Part:
    """One segment: what it is and what its header says. A value that its modality has not, or its file does not tell, is None."""

    modality: Modality
    form: str                     # JPEG, FLAC …; UTF-8
    num_bytes: int
    height: int | None = None
    width: int | None = None
    seconds: float | None = None
    rate_hz: int | None = None
    characters: int | None = None
    words: int | None = None
    language: str | None = None   # ISO 639-1, when py3langid is there
    script: str | None = None     # the script of most of its letters
    speaker: int | None = None    # numbers of the vector that says who speaks


@dataclass(frozen=True)
class Facts:
    """A sample that is whole. `direction`: what it can teach to make from what, as it is stored. `attributes`: their names."""

    id: str
    direction: str
    parts: tuple[Part, ...]
    attributes: tuple[str, ...]


def examine(record: Record, limits: MediaLimits, sample_rate_hz: int, guess_language: bool, view: View = PLAIN) -> tuple[Facts, Sample]:
    """Facts of a sample, and the sample itself as the model would get it. Raises BadSample."""
    sample = decode_record(record, limits, sample_rate_hz, view)
    pairs = zip(record.members, sample.segments, strict=True)
    parts = tuple(_part(member, segment.media, limits, guess_language) for member, segment in pairs)
    sizes = [None if segment.speaker is None else len(segment.speaker) for segment in sample.segments]
    parts = tuple(replace(part, speaker=size) for part, size in zip(parts, sizes, strict=True))
    return Facts(record.id, direction(sample.segments), parts, tuple(sorted(record.attributes))), sample


def language_is_known() -> bool:
    """Whether the language detector of the extra `curate` is installed."""
    from importlib.util import find_spec

    return find_spec("py3langid") is not None


def script_of(text: str) -> str:
    """The script of most of the letters: the first word of their Unicode names (LATIN, CJK, ARABIC …); "" without letters.

    Kana and hangul next to CJK say more about a text than CJK itself, so Japanese counts as HIRAGANA.
    """
    names = Counter(unicodedata.name(c, "UNKNOWN").split()[0] for c in text[:MAX_GUESSED] if c.isalpha())
    kana = names["HIRAGANA"] + names["KATAKANA"]
    if kana and kana * 10 >= names["CJK"]:
        names["HIRAGANA"], names["KATAKANA"], names["CJK"] = kana + names["CJK"], 0, 0
    return names.most_common(1)[0][0] if names else ""


def _part(member: Member, media: object, limits: MediaLimits, guess_language: bool) -> Part:
    """Facts of a member that was decoded, so its header can be read."""
    size = len(member.data)
    match member.modality:
        case Modality.TEXT:
            text = str(media)
            return Part(member.modality, "UTF-8", size, characters=len(text), words=len(text.split()), script=script_of(text),
                        language=_language(text) if guess_language else None)
        case Modality.IMAGE:
            with open_picture(member.data, limits) as image:
                return Part(member.modality, sniff(member.data), size, image.height, image.width)
        case Modality.VIDEO:
            clip = read_clip_header(member.data, limits)
            return Part(member.modality, sniff(member.data), size, clip.height, clip.width, clip.seconds)
        case Modality.AUDIO:
            with open_sound(member.data, limits) as file:
                return Part(member.modality, sniff(member.data), size, seconds=file.frames / file.samplerate, rate_hz=file.samplerate)


def _language(text: str) -> str | None:
    from ernie5.data_pipelines.curate.text_rules import identifier

    if len(text.strip()) < 20:  # nobody can tell the language of two words
        return None
    return str(identifier().classify(" ".join(text[:MAX_GUESSED].casefold().split()))[0])
