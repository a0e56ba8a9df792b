"""Clip bytes to frames: MP4/MOV, Matroska/WebM or AVI -> uint8 t 3 h w at a fixed frame rate, t = 1 + stride * k.

Frame j is the picture on the screen j / fps seconds after the first one, by time stamps, so a variable frame rate is no special case.
The clip is cut to the longest 1 + stride * k frames; one that is shorter than 1 + stride holds its last frame (as a screen would)
until it has them. Upright by the rotation in the file, square pixels by its aspect ratio, centre crop as images. Sound is ignored.
Caps hold before decoding by the header and while decoding by every frame; damaged or missing packets refuse the clip.
Ours: all of it; the report does not say how frames are chosen.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from io import BytesIO

import av
import torch
from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.decode_image import to_tensor
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize, reason_of
from ernie5.data_pipelines.picture_crop import CENTRE, Crop, fit
from ernie5.data_pipelines.sniff_media import describe, is_cut, mp4_samples, sniff

DEMUXERS = {"MP4": "mov", "MATROSKA": "matroska", "AVI": "avi"}
CODECS = ("h264", "hevc", "mpeg4", "mjpeg", "vp8", "vp9", "av1", "libdav1d", "libvpx", "libvpx-vp9")
MAX_TABLE = 2**19  # entries take 66 bytes each
_ROUNDING_S = Fraction(1, 500)  # time stamps in whole milliseconds may be late by this much
_TURN = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}


def decode_video(data: bytes, limits: MediaLimits, crop: Crop = CENTRE) -> Tensor:
    """Encoded bytes -> uint8 `t 3 h w` of `limits.video_size`, t = 1 + temporal_stride * k <= num_frames; one `crop` for all frames.
    Raises BadMedia.
    """
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the clip has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    if sniff(data) not in DEMUXERS:
        raise BadMedia(f"not an MP4, MOV, MKV, WEBM or AVI clip but {describe(data)}")
    if is_cut(data):
        raise BadMedia("the clip is cut short: its header promises more bytes than there are")
    if sniff(data) == "MP4" and mp4_samples(data) > MAX_TABLE:
        raise BadMedia(f"the clip's tables claim {mp4_samples(data)} samples, more than {MAX_TABLE}; "
                       "cut it, or turn uncompressed sound into AAC")
    options = {"max_pixels": str(limits.max_pixels), "threads": "1", "err_detect": "crccheck+bitstream+buffer+explode"}
    try:
        # naming the demuxer keeps FFmpeg from guessing others, some of which open further files
        with av.open(BytesIO(data), format=DEMUXERS[sniff(data)], options=options) as container:
            if not container.streams.video:
                raise BadMedia("the file has no moving pictures")
            stream = container.streams.video[0]
            _check_header(container, stream, limits)
            stream.codec_context.options = options
            stream.thread_type = "NONE"
            return _choose(_frames(container, stream, limits), stream, limits, crop)
    except BadMedia:
        raise
    except Exception as error:  # FFmpeg's errors, and what PyAV makes of odd streams
        raise BadMedia(f"not a readable clip although it looks like {describe(data)}: {reason_of(error)}") from error


def _check_header(container, stream, limits: MediaLimits) -> None:
    codec = stream.codec_context
    if codec is None or codec.name not in CODECS:
        raise BadMedia(f"the clip's codec {codec.name if codec else 'is unknown and'} is not read; use one of {', '.join(CODECS[:7])}")
    _check_pixels(codec.width, codec.height, limits)
    if stream.frames > limits.max_frames:
        raise BadMedia(f"the clip has {stream.frames} frames by its header, more than max_frames = {limits.max_frames}")
    seconds = stream.duration * stream.time_base if stream.duration else Fraction(container.duration or 0, av.time_base)
    if seconds > limits.max_seconds:
        raise BadMedia(f"the clip lasts {float(seconds):.6g} s by its header, more than max_seconds = {limits.max_seconds}")


def _check_pixels(width: int, height: int, limits: MediaLimits) -> None:
    if not width * height:  # what a decoder says that stopped at our cap
        raise BadMedia(f"the frame size of the clip cannot be read, or is above max_pixels = {limits.max_pixels}")
    if width * height > limits.max_pixels:
        raise BadMedia(f"the clip has frames of {width} x {height} pixels, more than max_pixels = {limits.max_pixels}")


def _frames(container, stream, limits: MediaLimits) -> Iterator[tuple[Fraction, av.VideoFrame]]:
    """(seconds since the first frame, frame) in the order of display."""
    first = previous = None
    count = 0
    for packet in container.demux(stream):
        if packet.is_corrupt:
            raise BadMedia(f"the clip is damaged or cut short at frame {count}")
        for frame in packet.decode():
            count += 1
            if count > limits.max_frames:
                raise BadMedia(f"the clip has more than max_frames = {limits.max_frames} frames")
            _check_pixels(frame.width, frame.height, limits)
            if frame.is_corrupt:
                raise BadMedia(f"the clip is damaged at frame {count - 1}")
            if frame.pts is None or frame.time_base is None:
                raise BadMedia(f"frame {count - 1} of the clip has no time stamp")
            time = frame.pts * frame.time_base
            first = time if first is None else first
            if previous is not None and time < previous:
                raise BadMedia(f"the time stamps of the clip run backwards at frame {count - 1}")
            previous = time
            yield time - first, frame


def _choose(frames: Iterator[tuple[Fraction, av.VideoFrame]], stream, limits: MediaLimits, crop: Crop) -> Tensor:
    step = 1 / Fraction(limits.fps).limit_denominator(100_000)
    aspect = float(stream.sample_aspect_ratio or 1)
    chosen: list[Tensor] = []
    shown = None  # the picture on the screen, since `time`
    time, due = Fraction(0), _ROUNDING_S  # `due`: what is on the screen then is chosen next
    for time, frame in frames:
        while shown is not None and len(chosen) < limits.num_frames and due < time:
            chosen.append(_pixels(shown, aspect, limits.video_size, crop))
            due = len(chosen) * step + _ROUNDING_S
        if len(chosen) == limits.num_frames:
            break
        shown = frame
    if shown is None:
        raise BadMedia("the clip holds no frames")
    # the last picture is known to stay for its duration
    until = time + ((shown.duration or 0) * (shown.time_base or 0) or 1 / (stream.average_rate or Fraction(limits.fps)))
    while len(chosen) < limits.num_frames and (len(chosen) * step <= time + _ROUNDING_S or len(chosen) * step + _ROUNDING_S < until):
        chosen.append(_pixels(shown, aspect, limits.video_size, crop))
    shortest = min(1 + limits.temporal_stride, limits.num_frames)
    if len(chosen) < shortest:
        chosen += [_pixels(shown, aspect, limits.video_size, crop)] * (shortest - len(chosen))
    return torch.cat(chosen[:1 + (len(chosen) - 1) // limits.temporal_stride * limits.temporal_stride])


def _pixels(frame: av.VideoFrame, aspect: float, size: VisionSize, crop: Crop) -> Tensor:
    turn = round(getattr(frame, "rotation", 0)) % 360
    if turn in (90, 270):
        size, crop = VisionSize(height=size.width, width=size.height), crop.on_its_side()
    image = fit(Image.fromarray(frame.to_ndarray(format="rgb24")), size, aspect, crop)
    return to_tensor(image.transpose(_TURN[turn]) if turn in _TURN else image)
