"""The pictures or clips of a run's sources, read and decoded when drawn: what a vision tokenizer is trained on at any size.

    number -> (source, sample) -> its member `pick` of the kind -> upright picture, kept for a while -> window

A picture is kept no larger than the smallest zoom can make use of. What cannot be read, and what is of another kind, gives None; the
batches then draw again. Sources whose first samples hold nothing of the kind are left out. Ours: all of it.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate
from math import ceil

from PIL import Image
from torch import Tensor

from ernie5.data_pipelines.decode_image import to_tensor
from ernie5.data_pipelines.decode_upright import decode_upright
from ernie5.data_pipelines.decode_video import decode_video
from ernie5.data_pipelines.media_limits import BadMedia, VisionSize
from ernie5.data_pipelines.picture_crop import Crop
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.recent import Recent
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality
from ernie5.tokenizers.vision.windows import Window, WindowConfig
from ernie5.train.prepare import Corpus

LOOKED_AT = 32  # samples of a source that say whether it holds the kind
log = logging.getLogger(__name__)


class CorpusPool:
    """A `MediaPool` over all samples of a corpus that may hold `kind`: images or clips."""

    def __init__(self, corpus: Corpus, kind: Modality, windows: WindowConfig) -> None:
        self.corpus, self.kind = corpus, kind
        self.side = ceil(max(max(size) for size in windows.sizes) / windows.zoom[0])
        self._kept: Recent[Image.Image] = Recent(int(windows.cache_gib * 2**30))
        self._names = [name for name in corpus.sources if self._holds(name)]
        self._ends = list(accumulate(len(corpus.sources[name]) for name in self._names))
        self._without = bytearray(len(self))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def window(self, index: int, window: Window) -> Tensor | None:
        """uint8 `t 3 h w`; None where sample `index` holds nothing of the kind that can be read."""
        if self._without[index]:
            return None
        number = bisect_right(self._ends, index)
        place = index - (self._ends[number - 1] if number else 0)
        try:
            found = self._window(self._names[number], place, window)
        except (BadSample, BadMedia) as damage:
            log.debug("%s/%d is left out of tokenizer training: %s", self._names[number], place, damage)
            return None
        if found is None:
            self._without[index] = 1
        return found

    def _window(self, name: str, place: int, window: Window) -> Tensor | None:
        members = self._members(name, place)
        if not members:
            return None
        pick = int(window.pick * len(members))
        limits = self.corpus.recipe.data.limits
        if self.kind is Modality.VIDEO:
            size, crop = VisionSize(window.height, window.width), Crop(window.zoom, 1.0, window.x, window.y)
            frames = decode_video(members[pick].data, replace(limits, video_size=size), crop)
            return frames.flip(-1) if window.mirror else frames
        image = self._kept.get((name, place, pick), lambda: _weighed(decode_upright(members[pick].data, limits, self.side)))
        top, left, height, width = window.part(image.height, image.width)
        part = image.resize((window.width, window.height), Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
        return to_tensor(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if window.mirror else part)

    def _members(self, name: str, place: int) -> list[Member]:
        return [member for member in self.corpus.sources[name].read(place).members if member.modality is self.kind]

    def _holds(self, name: str) -> bool:
        for place in range(min(LOOKED_AT, len(self.corpus.sources[name]))):
            try:
                if self._members(name, place):
                    return True
            except BadSample:
                continue
        return False


def _weighed(image: Image.Image) -> tuple[Image.Image, int]:
    return image, 3 * image.width * image.height
