"""Rules about the media of one sample, from headers only: size and shape of pictures and clips, length of clips and sounds.

One medium outside the limits rejects the whole sample. A sample without such media passes.
Ours: all of it; the report only says that its data is filtered.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.data_pipelines.curate.media_headers import open_picture, open_sound, read_clip_header
from ernie5.data_pipelines.curate.view import Reject, View
from ernie5.sequence import Modality


@dataclass(frozen=True)
class ImageSize:
    """Limits of images in pixels, both included. `max_aspect`: longer side / shorter side."""

    min_side: int = 1
    max_side: int | None = None
    max_aspect: float | None = None

    def __post_init__(self) -> None:
        _check_aspect(self.max_aspect)


@dataclass(frozen=True)
class ClipSize:
    """Limits of clips: frame sides in pixels, aspect, and length in seconds, all included.

    A clip whose header does not give its length is rejected where there is a limit on it.
    """

    min_side: int = 1
    max_side: int | None = None
    max_aspect: float | None = None
    min_seconds: float = 0.0
    max_seconds: float | None = None

    def __post_init__(self) -> None:
        _check_aspect(self.max_aspect)


@dataclass(frozen=True)
class SoundSize:
    """Limits of sounds: length in seconds and sample rate, all included."""

    min_seconds: float = 0.0
    max_seconds: float | None = None
    min_rate_hz: int = 1


def check_images(view: View, rule: ImageSize) -> Reject | None:
    """None when every image is within the limits. Raises BadMedia."""
    for member in view.record.members:
        if member.modality is Modality.IMAGE:
            with open_picture(member.data, view.limits) as image:
                found = _sides(*image.size, rule.min_side, rule.max_side, rule.max_aspect)
            if found:
                return found
    return None


def check_clips(view: View, rule: ClipSize) -> Reject | None:
    """None when every clip is within the limits. Raises BadMedia."""
    for member in view.record.members:
        if member.modality is Modality.VIDEO:
            clip = read_clip_header(member.data, view.limits)
            if clip.seconds is None and (rule.min_seconds > 0 or rule.max_seconds is not None):
                return Reject("unknown length")
            found = (_sides(clip.width, clip.height, rule.min_side, rule.max_side, rule.max_aspect)
                     or _seconds(clip.seconds or 0.0, rule.min_seconds, rule.max_seconds))
            if found:
                return found
    return None


def check_sounds(view: View, rule: SoundSize) -> Reject | None:
    """None when every sound is within the limits. Raises BadMedia."""
    for member in view.record.members:
        if member.modality is Modality.AUDIO:
            with open_sound(member.data, view.limits) as file:
                rate_hz, seconds = file.samplerate, file.frames / file.samplerate
            found = Reject("sample rate too low", rate_hz) if rate_hz < rule.min_rate_hz else \
                _seconds(seconds, rule.min_seconds, rule.max_seconds)
            if found:
                return found
    return None


def _sides(width: int, height: int, least: int, most: int | None, max_aspect: float | None) -> Reject | None:
    short, long = sorted((width, height))
    if short < least:
        return Reject("side too short", short)
    if most is not None and long > most:
        return Reject("side too long", long)
    if max_aspect is not None and long > max_aspect * short:
        return Reject("aspect too long", round(long / max(1, short), 3))
    return None


def _seconds(seconds: float, least: float, most: float | None) -> Reject | None:
    if seconds < least:
        return Reject("too short", round(seconds, 3))
    return Reject("too long", round(seconds, 3)) if most is not None and seconds > most else None


def _check_aspect(max_aspect: float | None) -> None:
    if max_aspect is not None and max_aspect < 1:
        raise ValueError(f"max_aspect = {max_aspect} must be at least 1 (longer side / shorter side)")
