"""What a file may cost before it is refused, and what of it the model gets. Caps are checked from headers, before anything is decoded.

    refused   more bytes, pixels, frames, seconds, channels than the caps
    kept      images of `image_size`, or at their own size up to `native_pixels`
              clips of `num_frames` at `fps` and `video_size`; the first `audio_seconds` of a sound

Ours: the numbers; the defaults are those of the tiny demonstration (32 x 32 pixels, 9 frames at 8 Hz, 13 codec frames of sound).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields

MAX_PIXELS = 89_000_000  # above, Pillow warns on its own


class BadMedia(ValueError):
    """Bytes that are not what they should be, or cost too much. The message is the reason, for people."""


def reason_of(error: Exception) -> str:
    """A decoder's error as one short line that is the same every time (no addresses of objects)."""
    return re.sub(r"\s+", " ", re.sub(r"<\S+ object at 0x\w+>|'<none>'", "it", str(error))).strip()[:160] or type(error).__name__


@dataclass(frozen=True)
class VisionSize:
    """Height and width in pixels."""

    height: int = 32
    width: int = 32

    def __post_init__(self):
        if self.height < 1 or self.width < 1:
            raise ValueError(f"data.limits: a size of {self.height} x {self.width} pixels must be at least 1 x 1")


@dataclass(frozen=True)
class MediaLimits:
    """Caps and targets of decoding. Raises ValueError when a value cannot be."""

    max_bytes: int = 2**26             # of one image, clip or sound, still encoded
    max_text_bytes: int = 2**20
    max_pixels: int = 32_000_000       # height x width of an image or a frame
    max_frames: int = 10_000           # of a clip, before frames are chosen
    max_seconds: float = 600.0         # of a clip or a sound, before it is cut
    max_channels: int = 8              # of a sound
    image_size: VisionSize = VisionSize()
    native_pixels: int = 262_144       # of an image that keeps its own size (sources that are `native`)
    video_size: VisionSize = VisionSize()
    fps: float = 8.0                   # frames per second that the model gets
    num_frames: int = 9                # 1 + temporal_stride * k
    temporal_stride: int = 4           # frames per latent frame after the first
    audio_seconds: float = 1.04

    def __post_init__(self):
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(value, VisionSize) and not value > 0:
                raise ValueError(f"data.limits.{field.name} = {value} must be above 0")
        if self.max_pixels > MAX_PIXELS:
            raise ValueError(f"data.limits.max_pixels = {self.max_pixels} must be at most {MAX_PIXELS}; shrink larger pictures first")
        if (self.num_frames - 1) % self.temporal_stride:
            raise ValueError(f"data.limits.num_frames = {self.num_frames} must be 1 + k * {self.temporal_stride} (temporal_stride), "
                             f"e.g. {1 + (self.num_frames - 1) // self.temporal_stride * self.temporal_stride}")
