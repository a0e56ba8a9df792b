"""The pictures or clips of a run's sources, read and decoded when drawn: what a vision tokenizer is trained on at any size.

    number -> (source, sample) -> its member `pick` of the kind -> upright picture, kept for a while -> window

A picture is kept no larger than the smallest zoom can make use of. What cannot be read, and what is of another kind, gives None; the
batches then draw again. Ours: all of it.
"""

from __future__ import annotations

import logging
from dataclasses import replace
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
from ernie5.sequence import Modality
from ernie5.tokenizers.vision.windows import Window, WindowConfig
from ernie5.train.places import Places
from ernie5.train.prepare import Corpus

log = logging.getLogger(__name__)


class CorpusPool:
    """A `MediaPool` over all samples of a corpus that may hold `kind`: images or clips."""

    def __init__(self, corpus: Corpus, kind: Modality, windows: WindowConfig) -> None:
        self.corpus, self.kind = corpus, kind
        self.side = ceil(max(max(size) for size in windows.sizes) / windows.zoom[0])
        self._kept: Recent[Image.Image] = Recent(int(windows.cache_gib * 2**30))
        self._places = Places(corpus, kind)
        self._without = bytearray(len(self))

    def __len__(self) -> int:
        return len(self._places)

    def window(self, index: int, window: Window) -> Tensor | None:
        """uint8 `t 3 h w`; None where sample `index` holds nothing of the kind that can be read."""
        if self._without[index]:
            return None
        try:
            found = self._window(index, window)
        except (BadSample, BadMedia) as damage:
            log.debug("%s/%d is left out of tokenizer training: %s", *self._places.find(index), damage)
            return None
        if found is None:
            self._without[index] = 1
        return found

    def _window(self, index: int, window: Window) -> Tensor | None:
        members = self._places.members(index)
        if not members:
            return None
        pick = int(window.pick * len(members))
        limits = self.corpus.recipe.data.limits
        if self.kind is Modality.VIDEO:
            size, crop = VisionSize(window.height, window.width), Crop(window.zoom, 1.0, window.x, window.y)
            frames = decode_video(members[pick].data, replace(limits, video_size=size), crop)
            return frames.flip(-1) if window.mirror else frames
        image = self._kept.get((*self._places.find(index), pick), lambda: _weighed(decode_upright(members[pick].data, limits, self.side)))
        top, left, height, width = window.part(image.height, image.width)
        part = image.resize((window.width, window.height), Image.Resampling.LANCZOS, box=(left, top, left + width, top + height))
        return to_tensor(part.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if window.mirror else part)


def _weighed(image: Image.Image) -> tuple[Image.Image, int]:
    return image, 3 * image.width * image.height
