"""One stored record to one sample: every member decoded under the limits, or none.

The first member that cannot be decoded makes the whole record bad: half a document would teach something that nobody wrote.
Which decoder runs is decided by the member's modality; which format it reads, by the bytes.
Ours: the limits. Every segment gets Role.GENERATE, and the mixture decides later what is only read; but images at their own size are
Role.UNDERSTAND from the beginning: sizes of what is generated are few, by the scales that a tokenizer was trained for.
"""

from __future__ import annotations

from torch import Tensor

from ernie5.data_pipelines.augment import PLAIN, View, one_caption
from ernie5.data_pipelines.decode_audio import decode_audio
from ernie5.data_pipelines.decode_image import decode_image
from ernie5.data_pipelines.decode_video import decode_video
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.sniff_media import describe
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.speaker import read_speaker
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality, Role, Sample, Segment


def decode_record(record: Record, limits: MediaLimits, sample_rate_hz: int = 16000, view: View = PLAIN) -> Sample:
    """Decode all members of a record, in order, as `view` wants them. Raises BadSample, which names the record and the reason; whether
    it is raised does not depend on what was drawn.
    """
    segments = []
    for number, member in enumerate(record.members):
        try:
            role = Role.UNDERSTAND if view.native and member.modality is Modality.IMAGE else Role.GENERATE
            speaker = None if member.speaker is None else read_speaker(member.speaker)
            segments.append(Segment(member.modality, decode_member(member, limits, sample_rate_hz, view), role, speaker))
        except BadMedia as error:
            raise BadSample(record.id, f"segment {number} ({member.modality.value}): {error}") from error
    kept = tuple(segments) if view.caption is None else one_caption(tuple(segments), view.caption)
    return Sample(record.id, kept, record.attributes)


def decode_member(member: Member, limits: MediaLimits, sample_rate_hz: int = 16000, view: View = PLAIN) -> str | Tensor:
    """One encoded file -> str, uint8 `t c h w` or float32 `n`. Raises BadMedia."""
    match member.modality:
        case Modality.TEXT:
            return decode_text(member.data, limits)
        case Modality.IMAGE:
            return decode_image(member.data, limits, view.crop, view.sizes, view.native)
        case Modality.VIDEO:
            return decode_video(member.data, limits, view.crop)
        case Modality.AUDIO:
            return decode_audio(member.data, limits, sample_rate_hz, view.speed, view.fastest)


def decode_text(data: bytes, limits: MediaLimits) -> str:
    """UTF-8, strictly, with or without a byte order mark. The one line end that closes a text file is not part of the text."""
    if len(data) > limits.max_text_bytes:
        raise BadMedia(f"the text has {len(data)} bytes, more than max_text_bytes = {limits.max_text_bytes}")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadMedia(f"not UTF-8 text but {describe(data)}: {error.reason} at byte {error.start}; convert it to UTF-8") from error
    if "\0" in text:
        raise BadMedia("the text has a zero character; it is no text, or UTF-16: convert it to UTF-8")
    text = text.replace("\r\n", "\n").removesuffix("\n")
    if not text.strip():
        raise BadMedia("the text is empty")
    return text
