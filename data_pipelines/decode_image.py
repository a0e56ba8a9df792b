"""Image bytes to pixels: JPEG, PNG or WEBP -> uint8 1 3 h w, upright RGB, cropped (at the centre) and scaled to one size.

16 bits per channel are scaled to 8, palettes, grey and CMYK become RGB (colour profiles are ignored), transparent parts become white,
EXIF orientation is applied. The size is read first: a picture above the cap is refused before it is decoded.
Ours: the choice of formats and of the crop.
Letters: h, w the wanted size.
"""

from __future__ import annotations

import math
import warnings
from io import BytesIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.media_limits import BadMedia, MediaLimits, VisionSize, reason_of
from ernie5.data_pipelines.picture_crop import CENTRE, Crop, fit, nearest
from ernie5.data_pipelines.sniff_media import describe, png_damage

FORMATS = ("JPEG", "PNG", "WEBP")
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # our own cap is lower, and refuses
_EXIF_ORIENTATION = 0x0112
_TURN = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
         5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}


def decode_image(data: bytes, limits: MediaLimits, crop: Crop = CENTRE, sizes: tuple[VisionSize, ...] = ()) -> Tensor:
    """Encoded bytes -> uint8 `1 3 h w` of `limits.image_size`, or of one of `sizes` whose aspect is nearer. Raises BadMedia."""
    if len(data) > limits.max_bytes:
        raise BadMedia(f"the image has {len(data)} bytes, more than max_bytes = {limits.max_bytes}")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            return _pixels(image, data, limits, crop, (limits.image_size, *sizes))
    except BadMedia:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own cap lies far above ours
        raise BadMedia(f"the image has more than max_pixels = {limits.max_pixels}: {reason_of(error)}") from error
    except Exception as error:  # decoders raise almost anything on damaged bytes
        raise BadMedia(f"not a readable JPEG, PNG or WEBP image but {describe(data)}: {reason_of(error)}") from error


def to_tensor(image: Image.Image) -> Tensor:
    """RGB image -> uint8 `1 3 h w`."""
    planes = b"".join([image.tobytes("raw", band) for band in "RGB"])  # a third of the time of turning an array
    return torch.frombuffer(bytearray(planes), dtype=torch.uint8).view(1, 3, image.height, image.width)


def _pixels(image: Image.Image, data: bytes, limits: MediaLimits, crop: Crop, sizes: tuple[VisionSize, ...]) -> Tensor:
    if image.width * image.height > limits.max_pixels:
        raise BadMedia(f"the image has {image.width} x {image.height} pixels, more than max_pixels = {limits.max_pixels}")
    if getattr(image, "is_animated", False) and image.format != "MPO":  # an MPO is a photo with a second view or a preview
        raise BadMedia("the image is animated; convert it to a video")
    if image.format == "PNG" and (damage := png_damage(data)):
        raise BadMedia(f"the PNG file is damaged: {damage}")
    width, height = image.size
    # JPEG can decode at 1/2, 1/4, 1/8; twice the wanted size on both sides leaves the filter enough to work with
    image.draft(None, (math.ceil(2 * max(max(size.height, size.width) for size in sizes) * crop.detail),) * 2)
    image.load()
    turn = _orientation(image)
    size = nearest(sizes, *((height, width) if turn >= 5 else (width, height)))
    if turn >= 5:  # sides swap
        size, crop = VisionSize(height=size.width, width=size.height), crop.on_its_side()
    image = _on_white(fit(_eight_bit(image), size, crop=crop))
    return to_tensor(image.transpose(_TURN[turn]) if turn in _TURN else image)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # unreadable EXIF says nothing about how to turn the picture; the pixels are whole
        return 1


def _eight_bit(image: Image.Image) -> Image.Image:
    """RGB, or RGBA where something may be transparent; still at full size."""
    if image.mode.startswith("I"):  # 16-bit grey; RGB with 16 bits is scaled by Pillow
        values = np.asarray(image).astype(np.float32)
        image = Image.fromarray(np.round(values.clip(0, 65535) / 257).astype(np.uint8), "L")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        return image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")
