"""The sounds of a run's sources as recordings that are read when they are needed, whole: the causal codec is trained on pieces of them.

A record that holds none, or is damaged, is passed over.
"""

from __future__ import annotations

import logging
from dataclasses import replace

from torch import Tensor

from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.media_limits import BadMedia
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.sequence import Modality
from ernie5.tokenizers.audio.recordings import Recordings
from ernie5.train.places import Places
from ernie5.train.prepare import Corpus

log = logging.getLogger(__name__)


def recordings_of(corpus: Corpus, sample_rate_hz: int, cache_bytes: int) -> Recordings | None:
    """All recordings of the corpus at this rate, of up to `data.limits.max_seconds` each; None where no source holds sounds."""
    limits = corpus.recipe.data.limits
    whole = replace(limits, audio_seconds=limits.max_seconds)
    places = Places(corpus, Modality.AUDIO)

    def read(number: int) -> list[Tensor]:
        try:
            return [_sound(decode_member(member, whole, sample_rate_hz)) for member in places.members(number)]
        except (BadSample, BadMedia) as damage:
            log.debug("%s/%d is left out of tokenizer training: %s", *places.find(number), damage)
            return []

    return Recordings(read, len(places), cache_bytes) if len(places) else None


def _sound(media: str | Tensor) -> Tensor:
    assert isinstance(media, Tensor)
    return media
