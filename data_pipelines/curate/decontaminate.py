"""Decontamination: samples that hold what the model is to be tested on go, so that a test tests.

    text    share of an eval text's n-grams (runs of `words` words) that the sample holds >= threshold        (n = 8, 0.5)
    image   one of the sample's images is a copy of an eval image, as in near_image

The share is of the eval text, so a long document that quotes one is found as surely as a bare copy. An eval text with fewer than `words`
words is found only in a sample whose whole text it is; take fewer words for short ones, at the price of chance hits.
Memory: 12 bytes for every eval n-gram, about 800 for every eval image, in every process.
Ours: n and threshold; the report does not say how it decontaminates.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ernie5.data_pipelines.curate.hashing import grams
from ernie5.data_pipelines.curate.near_image import NearImage, PictureIndex
from ernie5.data_pipelines.curate.view import Reject, View


@dataclass(frozen=True)
class EvalText:
    """`against`: the eval set, a path as of any source, with its `fields` (source_config.py)."""

    against: str
    words: int = 8
    threshold: float = 0.5
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 1 <= self.words <= 64:
            raise ValueError(f"words = {self.words} must be 1 to 64")
        if not 0 < self.threshold <= 1:
            raise ValueError(f"threshold = {self.threshold} must be a share above 0, at most 1")


@dataclass(frozen=True)
class EvalImage(NearImage):
    """`against`: the eval set, with its `fields` (source_config.py); the others as in near_image."""

    against: str = ""
    fields: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.against:
            raise ValueError("against must be given: the shards of the eval set")


class EvalGrams:
    """All n-grams of the eval texts, sorted, each with the text that it belongs to."""

    def __init__(self, views: Iterable[View], rule: EvalText):
        """Reads every eval sample once. Raises BadMedia."""
        self.rule = rule
        self.ids: list[str] = []
        hashes, sizes = [], []
        for view in views:
            found = grams(view.words, rule.words)
            if len(found):
                self.ids.append(view.record.id)
                hashes.append(found)
                sizes.append(len(found))
        self._sizes = np.array(sizes, np.int64)
        owner = np.repeat(np.arange(len(sizes), dtype=np.int32), self._sizes)
        every = np.concatenate(hashes) if hashes else np.zeros(0, np.uint64)
        order = np.argsort(every, kind="stable")
        self._hashes, self._owner = every[order], owner[order]

    def check(self, view: View) -> Reject | None:
        """None when the sample's text holds less than the threshold of every eval text."""
        mine = grams(view.words, self.rule.words)
        first, last = np.searchsorted(self._hashes, mine, "left"), np.searchsorted(self._hashes, mine, "right")
        hits = [self._owner[a:b] for a, b in zip(first.tolist(), last.tolist(), strict=True) if a < b]
        if not hits:
            return None
        share = np.bincount(np.concatenate(hits), minlength=len(self._sizes)) / self._sizes
        worst = int(share.argmax())
        return Reject("contaminated text", round(float(share[worst]), 4), self.ids[worst]) if share[worst] >= self.rule.threshold else None


class EvalPictures:
    """All pictures of the eval set."""

    def __init__(self, views: Iterable[View], rule: EvalImage):
        """Reads every eval sample once. Raises BadMedia."""
        self.ids: list[str] = []
        self._index = PictureIndex(rule)
        for number, view in enumerate(views):
            self.ids.append(view.record.id)
            for picture in view.pictures:
                self._index.add(picture.signature, number)

    def check(self, view: View) -> Reject | None:
        """None when no image of the sample is a copy of one of the eval set."""
        for picture in view.pictures:
            near = self._index.find(picture.signature)
            if near is not None:
                return Reject("contaminated image", near[1], self.ids[near[0]])
        return None
