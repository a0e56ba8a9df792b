"""What stays of a picture when it is recompressed, resized, a little cropped or made brighter: 137 bytes.

    code      64 bits: the 8 x 8 lowest frequencies (DCT) of the 32 x 32 grey picture, each above their median or not (a "pHash")
    chroma    mean Cb and Cr of 8 x 8 cells: pictures that differ in colour only share the code, but not these
    light     mean grey level: a black and a white sheet share code and chroma

Mirrored and turned pictures, and those with large crops or frames, get other signatures.
Ours: the two checks beside the usual hash, because a hash of grey levels cannot tell a red circle from a blue one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

SIGNATURE_BYTES = 8 + 128 + 1
_SIDE, _LOW = 32, 8
_FREQUENCY, _PIXEL = np.arange(_LOW)[:, None], np.arange(_SIDE)[None]
_DCT = np.cos(np.pi / _SIDE * (_PIXEL + 0.5) * _FREQUENCY)  # 8 32


@dataclass(frozen=True)
class Likeness:
    """How far apart two signatures are. `distance`: bits of 64 that differ; `colour`: largest difference of a cell's chroma and
    `light`: difference of the mean grey level, both on a scale of 255."""

    distance: int
    colour: int
    light: int


def picture_signature(image: Image.Image) -> np.ndarray:
    """An RGB image of any size -> uint8 `137`."""
    grey = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.LANCZOS), np.float64)
    low = (_DCT @ grey @ _DCT.T).ravel()
    code = np.packbits(low > np.median(low[1:]))
    cells = np.asarray(image.convert("YCbCr").resize((_LOW, _LOW), Image.Resampling.BOX))
    return np.concatenate([code, cells[..., 1:].ravel(), [round(grey.mean())]]).astype(np.uint8)


def code_of(signature: np.ndarray) -> int:
    """The 64-bit hash inside a signature."""
    return int.from_bytes(signature[:8].tobytes(), "big")


def compare(a: np.ndarray, b: np.ndarray) -> Likeness:
    """Two signatures -> how far apart they are."""
    apart = np.abs(a[8:].astype(np.int16) - b[8:])
    return Likeness((code_of(a) ^ code_of(b)).bit_count(), int(apart[:-1].max()), int(apart[-1]))
