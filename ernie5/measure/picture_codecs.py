"""JPEG and WebP as baselines: the best picture at a number of bits, headers not counted.

    JPEG   bits = 8 x the bytes from the end of the SOS header to EOI: scan data and its stuffing. Quantization and Huffman tables, which
           lie before, are free, and the Huffman tables are optimized for each picture: a generous count in JPEG's favour
    WebP   bits = 8 x the bytes of the VP8 chunk without its 10 bytes of frame header
    best   of all qualities 1..95 (JPEG: with whole and with halved colour) that fit the budget: the one of highest PSNR
    small  the picture is shrunk (Lanczos), coded, and enlarged (bicubic): the only way below what quality 1 costs, and often the better one
Source: ITU-T T.81 B.1 (markers), RFC 6386 9.1 (VP8 frame header). Ours: what is counted. Letters: h w pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO

import torch
from einops import rearrange
from PIL import Image, features
from torch import Tensor

from ernie5.data_pipelines.decode_image import to_tensor
from ernie5.measure.picture_distance import psnr
from ernie5.measure.within_bits import highest_fitting

QUALITIES = range(1, 96)
SHRINK = (1.0, 0.75, 0.5, 0.375, 0.25, 0.1875, 0.125)  # sides of the shrunk picture
WEBP_HEADER = 10
Codec = Callable[[Image.Image, int], bytes]


@dataclass(frozen=True)
class Coded:
    """A picture after a codec."""

    picture: Tensor  # uint8 1 3 h w
    bits: int
    quality: int
    scale: float = 1.0


def jpeg(image: Image.Image, quality: int, subsampling: str = "4:2:0") -> bytes:
    """A baseline JPEG file with Huffman tables of its own."""
    file = BytesIO()
    image.save(file, "JPEG", quality=quality, subsampling=subsampling, optimize=True)
    return file.getvalue()


def webp(image: Image.Image, quality: int) -> bytes:
    """A lossy WebP file."""
    file = BytesIO()
    image.save(file, "WEBP", quality=quality, method=4)
    return file.getvalue()


def scan_bits(file: bytes) -> int:
    """Bits of the scans of a JPEG file, without any header. ValueError when the markers make no sense."""
    at, total = 2, 0
    while at + 4 <= len(file):
        if file[at] != 0xFF:
            raise ValueError(f"byte {at} of the JPEG file must start a marker")
        marker = file[at + 1]
        if marker == 0xD9:
            return 8 * total
        at += 2 + int.from_bytes(file[at + 2:at + 4], "big")
        if marker == 0xDA:  # SOS: until the next marker that is neither a stuffed zero nor a restart
            start = at
            while not (file[at] == 0xFF and file[at + 1] != 0 and not 0xD0 <= file[at + 1] <= 0xD7):
                at += 1
            total += at - start
    if file[at:at + 2] != b"\xff\xd9":
        raise ValueError("the JPEG file has no end")
    return 8 * total


def vp8_bits(file: bytes) -> int:
    """Bits of the VP8 chunk of a WebP file, without frame header."""
    at = 12
    while at + 8 <= len(file):
        size = int.from_bytes(file[at + 4:at + 8], "little")
        if file[at:at + 4] == b"VP8 ":
            return 8 * (size - WEBP_HEADER)
        at += 8 + size + size % 2
    raise ValueError("the WebP file has no VP8 chunk")


CODECS: dict[str, tuple[tuple[Codec, ...], Callable[[bytes], int]]] = {
    "jpeg": ((partial(jpeg, subsampling="4:2:0"), partial(jpeg, subsampling="4:4:4")), scan_bits),
    **({"webp": ((webp,), vp8_bits)} if features.check("webp") else {}),
}


def best_within(name: str, picture: Tensor, max_bits: float, *, shrink: bool = False) -> Coded | None:
    """uint8 `1 3 h w` at most `max_bits`, at full size or (`shrink`) at any of `SHRINK`; None when nothing fits."""
    found: Coded | None = None
    best = -1.0
    for scale in SHRINK if shrink else (1.0,):
        for coded in _fitting(name, picture, max_bits, scale):
            score = psnr(coded.picture, picture)
            if score > best:
                found, best = coded, score
    return found


def lowest(name: str, picture: Tensor) -> Coded:
    """The fewest bits that the codec can spend on the picture at full size."""
    image, (variants, count) = _image(picture), CODECS[name]
    files = [codec(image, QUALITIES[0]) for codec in variants]
    file = min(files, key=count)
    return Coded(_pixels(file, picture), count(file), QUALITIES[0])


def at_quality(name: str, picture: Tensor, quality: int) -> Coded:
    """The codec's usual setting (JPEG: halved colour) at a quality, for its curve."""
    variants, count = CODECS[name]
    file = variants[0](_image(picture), quality)
    return Coded(_pixels(file, picture), count(file), quality)


def _fitting(name: str, picture: Tensor, max_bits: float, scale: float) -> Iterator[Coded]:
    """For every variant the highest quality that fits."""
    variants, count = CODECS[name]
    image = _image(picture)
    if scale != 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))), Image.Resampling.LANCZOS)
    for codec in variants:
        fits = highest_fitting(partial(codec, image), count, QUALITIES, max_bits)
        if fits:
            yield Coded(_pixels(fits[0], picture), count(fits[0]), fits[1], scale)


def _image(picture: Tensor) -> Image.Image:
    return Image.fromarray(rearrange(picture, "1 c h w -> h w c").numpy())


def _pixels(file: bytes, like: Tensor) -> Tensor:
    image = Image.open(BytesIO(file)).convert("RGB")
    size = (like.shape[-1], like.shape[-2])
    found = to_tensor(image if image.size == size else image.resize(size, Image.Resampling.BICUBIC))
    assert found.shape == like.shape and found.dtype == torch.uint8
    return found
