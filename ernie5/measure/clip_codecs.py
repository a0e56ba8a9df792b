"""H.264 as a baseline for clips: the best clip at a number of bits, headers not counted.

    bits = 8 x the bytes of the slices (NAL units 1 to 5); parameter sets, supplements and start codes are free
    best   the lowest constant rate factor (0..51) whose slices fit, 4:2:0, all of x264's tools (preset "slower", tuned for PSNR)
    small  the frames are shrunk (area), coded, and enlarged (bicubic): the best of all sizes
Source: ITU-T H.264 7.4.1 (NAL units). Ours: what is counted. Letters: t frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from io import BytesIO

import av
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from ernie5.measure.picture_distance import psnr
from ernie5.measure.within_bits import highest_fitting

CRF = range(51, -1, -1)  # in the order of quality
SHRINK = (1.0, 0.75, 0.5, 0.25)
SLICES = range(1, 6)
FPS = Fraction(8)
OPTIONS = {"preset": "slower", "tune": "psnr", "threads": "1", "x264-params": "log-level=none:keyint=infinite"}


@dataclass(frozen=True)
class CodedClip:
    """A clip after the codec."""

    clip: Tensor  # uint8 t 3 h w
    bits: int
    crf: int
    scale: float = 1.0


def h264(frames: Tensor, crf: int) -> bytes:
    """uint8 `t 3 h w`, even sides -> a raw stream of NAL units with start codes."""
    file = BytesIO()
    with av.open(file, "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=FPS, options={**OPTIONS, "crf": str(crf)})
        stream.height, stream.width, stream.pix_fmt = frames.shape[2], frames.shape[3], "yuv420p"
        for picture in rearrange(frames, "t c h w -> t h w c").contiguous().numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return file.getvalue()


def slice_bits(file: bytes) -> int:
    """Bits of the slices of a raw H.264 stream."""
    total = 0
    for unit in file.split(b"\x00\x00\x01")[1:]:
        if unit and unit[0] & 31 in SLICES:
            total += len(unit.rstrip(b"\x00"))  # zeros before the next start code belong to it
    return 8 * total


def best_clip(clip: Tensor, max_bits: float, *, shrink: bool = False) -> CodedClip | None:
    """uint8 `t 3 h w` at most `max_bits`, at full size or (`shrink`) at any of `SHRINK`; None when nothing fits."""
    fitting = [coded for scale in (SHRINK if shrink else (1.0,)) for coded in _fitting(clip, max_bits, scale)]
    return max(fitting, key=lambda coded: psnr(coded.clip, clip), default=None)


def at_crf(clip: Tensor, crf: int) -> CodedClip:
    """At full size; 51 costs the fewest bits."""
    file = h264(_even(clip, 1.0), crf)
    return CodedClip(_decoded(file, clip), slice_bits(file), crf)


def _fitting(clip: Tensor, max_bits: float, scale: float) -> Iterator[CodedClip]:
    frames = _even(clip, scale)
    fits = highest_fitting(partial(h264, frames), slice_bits, CRF, max_bits)
    if fits:
        yield CodedClip(_decoded(fits[0], clip), slice_bits(fits[0]), fits[1], scale)


def _even(clip: Tensor, scale: float) -> Tensor:
    """Shrunk to even sides of at least 2 pixels."""
    size = [max(2, round(side * scale / 2) * 2) for side in clip.shape[2:]]
    if tuple(clip.shape[2:]) == tuple(size):
        return clip
    return F.interpolate(clip.float(), size=size, mode="area").round().to(torch.uint8)


def _decoded(file: bytes, like: Tensor) -> Tensor:
    with av.open(BytesIO(file), format="h264") as container:
        frames = torch.stack([torch.from_numpy(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)])
    clip = rearrange(frames, "t h w c -> t c h w")
    assert len(clip) == len(like), "a frame was lost"
    if clip.shape == like.shape:
        return clip
    return F.interpolate(clip.float(), size=like.shape[2:], mode="bicubic", align_corners=False).clamp(0, 255).round().to(torch.uint8)
