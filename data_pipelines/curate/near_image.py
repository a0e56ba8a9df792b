"""Near duplicates of images: recompressed, resized, slightly cropped, brighter or darker copies of a picture that stays.

Two pictures are copies when their signatures (picture_signature) are within `distance` bits, `colour` and `light`. A sample goes when
every image in it is a copy of one in an earlier sample that stays; its caption and other media are not looked at.
Memory of the decision: 137 bytes an image, and about 650 more for one that stays. Ours: all of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ernie5.data_pipelines.curate.copies import Copies, tracked
from ernie5.data_pipelines.curate.hamming_index import MAX_RADIUS, HammingIndex
from ernie5.data_pipelines.curate.picture_signature import SIGNATURE_BYTES, code_of, compare
from ernie5.data_pipelines.curate.view import View


@dataclass(frozen=True)
class NearImage:
    """How far apart copies may be: bits of 64 of the perceptual hash, chroma of a cell and mean grey level of 255."""

    distance: int = 10
    colour: int = 32
    light: int = 64

    def __post_init__(self) -> None:
        if not 0 <= self.distance <= MAX_RADIUS:
            raise ValueError(f"distance = {self.distance} must be 0 to {MAX_RADIUS} of 64 bits; above, unrelated pictures count as copies")
        if min(self.colour, self.light) < 0:
            raise ValueError(f"colour = {self.colour} and light = {self.light} must not be negative")


class PictureIndex:
    """Pictures that can be asked for the nearest copy of another one."""

    def __init__(self, rule: NearImage):
        self.rule = rule
        self._codes = HammingIndex(rule.distance)
        self._signatures: list[np.ndarray] = []
        self._owner: list[int] = []

    def add(self, signature: np.ndarray, owner: int) -> None:
        """Take in a picture, uint8 `137`, of sample `owner`."""
        self._codes.add(code_of(signature))
        self._signatures.append(signature)
        self._owner.append(owner)

    def find(self, signature: np.ndarray) -> tuple[int, int] | None:
        """(owner, bits apart) of the nearest picture that counts as a copy, the earliest of several; None when there is none."""
        for distance, number in self._codes.near(code_of(signature)):
            apart = compare(signature, self._signatures[number])
            if apart.colour <= self.rule.colour and apart.light <= self.rule.light:
                return self._owner[number], distance
        return None


def sign(view: View) -> np.ndarray:
    """One signature for every image: uint8 `n 137`. Raises BadMedia."""
    return np.stack([p.signature for p in view.pictures]) if view.pictures else np.zeros((0, SIGNATURE_BYTES), np.uint8)


def find_copies(rows: np.ndarray, owner: np.ndarray, rule: NearImage) -> Copies:
    """Signatures `n 137` of samples `owner` (`n`, rising; one number for each image) -> the samples that go."""
    index = PictureIndex(rule)
    found: list[tuple[int, int, float]] = []
    starts = np.flatnonzero(np.diff(owner, prepend=-1))
    for start, end in tracked("comparing images", list(zip(starts.tolist(), [*starts[1:].tolist(), len(owner)], strict=True))):
        mine = rows[start:end]
        nearest = [index.find(signature) for signature in mine]
        copies = [near for near in nearest if near is not None]
        if len(copies) == len(mine):
            found.append((int(owner[start]), copies[0][0], max(bits for _, bits in copies)))
        else:
            for signature in mine:
                index.add(signature, int(owner[start]))
    return Copies.of_list(found)
