"""Size and length of encoded media from their headers: nothing is decoded, and nothing above the caps is opened further.

Ours: all of it. The caps and formats are those of the decoders (decode_image, decode_video, decode_audio).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO

import av
import soundfile
from PIL import Image

from ernie5.data_pipelines import decode_audio, decode_image, decode_video
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, reason_of
from ernie5.data_pipelines.sniff_media import describe, is_cut, mp4_samples, sniff


@dataclass(frozen=True)
class ClipHeader:
    """Frame size in pixels as stored, and length. `seconds` is None where the file does not say."""

    width: int
    height: int
    seconds: float | None


@contextmanager
def open_picture(data: bytes, limits: MediaLimits) -> Iterator[Image.Image]:
    """An opened image whose pixels are not decoded yet. Raises BadMedia, also for what fails inside the block."""
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the image has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    try:
        with Image.open(BytesIO(data), formats=decode_image.FORMATS) as image:
            if image.width * image.height > limits.max_pixels:
                raise BadMedia(f"the image has {image.width} x {image.height} pixels, more than max_pixels = {limits.max_pixels}")
            yield image
    except BadMedia:
        raise
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise BadMedia(f"not a readable JPEG, PNG or WEBP image but {describe(data)}: {reason_of(error)}") from error


@contextmanager
def open_sound(data: bytes, limits: MediaLimits) -> Iterator[soundfile.SoundFile]:
    """An opened sound whose samples are not decoded yet. Raises BadMedia, also for what fails inside the block."""
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the sound has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    if sniff(data) not in decode_audio.FORMATS:
        raise BadMedia(f"not a WAV, FLAC, OGG or MP3 sound but {describe(data)}")
    if is_cut(data):
        raise BadMedia("the sound is cut short: its header promises more bytes than there are")
    try:
        with soundfile.SoundFile(BytesIO(data)) as file:
            if file.channels > limits.max_channels or file.frames > limits.max_seconds * file.samplerate:
                raise BadMedia(f"the sound has {file.channels} channels and {file.frames / file.samplerate:.6g} s by its header, more than "
                               f"max_channels = {limits.max_channels} or max_seconds = {limits.max_seconds}")
            yield file
    except BadMedia:
        raise
    except Exception as error:  # libsndfile's errors, and whatever odd headers make of numpy
        raise BadMedia(f"not a readable sound although it looks like {describe(data)}: {reason_of(error)}") from error


def read_clip_header(data: bytes, limits: MediaLimits) -> ClipHeader:
    """Frame size and seconds of a clip. Raises BadMedia."""
    kind = sniff(data)
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the clip has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    if kind not in decode_video.DEMUXERS:
        raise BadMedia(f"not an MP4, MOV, MKV, WEBM or AVI clip but {describe(data)}")
    if is_cut(data) or kind == "MP4" and mp4_samples(data) > decode_video.MAX_TABLE:
        raise BadMedia("the clip is cut short, or its tables claim more samples than are read")
    try:
        with av.open(BytesIO(data), format=decode_video.DEMUXERS[kind], options={"max_pixels": str(limits.max_pixels)}) as container:
            if not container.streams.video:
                raise BadMedia("the file has no moving pictures")
            stream = container.streams.video[0]
            seconds = stream.duration * stream.time_base if stream.duration and stream.time_base else None
            if seconds is None and container.duration:
                seconds = container.duration / av.time_base
            return ClipHeader(stream.width, stream.height, None if seconds is None else float(seconds))
    except BadMedia:
        raise
    except Exception as error:  # FFmpeg's errors, and what PyAV makes of odd streams
        raise BadMedia(f"not a readable clip although it looks like {describe(data)}: {reason_of(error)}") from error
