"""Image bytes to the whole picture: upright RGB at its own size, or shrunk until its short side has a given length.

For those who cut windows out of pictures many times: a picture is decoded once and kept no larger than it is used. What is refused, and how
pixels become 8-bit RGB, is as in decode_image.py. Ours: all of it.
"""

from __future__ import annotations

from io import BytesIO

from PIL import Image

from ernie5.data_pipelines.decode_image import _TURN, FORMATS, _eight_bit, _on_white, _orientation
from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, reason_of
from ernie5.data_pipelines.sniff_media import describe, png_damage


def decode_upright(data: bytes, limits: MediaLimits, side: int) -> Image.Image:
    """Encoded bytes -> the whole picture, upright, RGB, shrunk where its short side is longer than `side`. Raises BadMedia."""
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the image has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > limits.max_pixels:
                raise BadMedia(f"the image has {image.width} x {image.height} pixels, more than max_pixels = {limits.max_pixels}")
            if getattr(image, "is_animated", False) and image.format != "MPO":
                raise BadMedia("the image is animated; convert it to a video")
            if image.format == "PNG" and (damage := png_damage(data)):
                raise BadMedia(f"the PNG file is damaged: {damage}")
            return _upright(image, side)
    except BadMedia:
        raise
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise BadMedia(f"not a readable JPEG, PNG or WEBP image but {describe(data)}: {reason_of(error)}") from error


def _upright(image: Image.Image, side: int) -> Image.Image:
    image.draft(None, (2 * side,) * 2)  # JPEG decodes at 1/2, 1/4, 1/8; twice the side leaves the filter enough to work with
    image.load()
    turn = _orientation(image)
    whole = _eight_bit(image)
    share = side / min(whole.size)
    if share < 1:
        whole = whole.resize((max(1, round(whole.width * share)), max(1, round(whole.height * share))), Image.Resampling.LANCZOS)
    whole = _on_white(whole)
    return whole.transpose(_TURN[turn]) if turn in _TURN else whole
