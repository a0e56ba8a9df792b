"""The sounds of a run's sources as recordings that are read when they are needed, whole: the causal codec is trained on pieces of them.

Sources without sounds are found by looking at some of their records, and left out; a record that holds none, or is damaged, is passed over.
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from dataclasses import replace
from itertools import accumulate

from torch import Tensor

from ernie5.data_pipelines.decode_media import decode_member
from ernie5.data_pipelines.sources import Source
from ernie5.sequence import Modality
from ernie5.tokenizers.audio.recordings import Recordings
from ernie5.train.prepare import Corpus

log = logging.getLogger(__name__)
PROBES = 64  # records of a source that are looked at, evenly spread


def recordings_of(corpus: Corpus, sample_rate_hz: int, cache_bytes: int) -> Recordings | None:
    """All recordings of the corpus at this rate, of up to `data.limits.max_seconds` each; None where no source holds sounds."""
    limits = corpus.recipe.data.limits
    whole = replace(limits, audio_seconds=limits.max_seconds)
    sources = {name: source for name, source in corpus.sources.items() if _sounds_in(source)}
    names, ends = list(sources), list(accumulate(len(source) for source in sources.values()))

    def read(place: int) -> list[Tensor]:
        number = bisect_right(ends, place)
        index = place - (ends[number - 1] if number else 0)
        try:
            members = sources[names[number]].read(index).members
            return [_sound(decode_member(m, whole, sample_rate_hz)) for m in members if m.modality is Modality.AUDIO]
        except ValueError as damage:
            log.debug("%s/%d is left out of tokenizer training: %s", names[number], index, damage)
            return []

    return Recordings(read, ends[-1], cache_bytes) if ends else None


def _sound(media: str | Tensor) -> Tensor:
    assert isinstance(media, Tensor)
    return media


def _sounds_in(source: Source) -> bool:
    """Whether one of the records that are looked at holds a sound."""
    for index in range(0, len(source), max(1, len(source) // PROBES)):
        try:
            if any(member.modality is Modality.AUDIO for member in source.read(index).members):
                return True
        except ValueError:
            continue
    return False
