"""All samples of a corpus that may hold one kind of media, numbered through: what is read when drawn, at any size of the corpus.

Sources whose records hold nothing of the kind, as far as some that are spread over them tell, are left out. Ours.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.write_shards import Member
from ernie5.sequence import Modality
from ernie5.train.prepare import Corpus

PROBES = 64  # records of a source that say whether it holds the kind


class Places:
    """`len(places)` samples; `members(number)` of the kind in one of them."""

    def __init__(self, corpus: Corpus, kind: Modality) -> None:
        self.corpus, self.kind = corpus, kind
        self._names = [name for name in corpus.sources if self._holds(name)]
        self._ends = list(accumulate(len(corpus.sources[name]) for name in self._names))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def find(self, number: int) -> tuple[str, int]:
        """The source of sample `number`, and its place there."""
        at = bisect_right(self._ends, number)
        return self._names[at], number - (self._ends[at - 1] if at else 0)

    def members(self, number: int) -> list[Member]:
        """The members of the kind, not decoded. Raises BadSample where the sample is damaged."""
        return self._members(*self.find(number))

    def _members(self, name: str, place: int) -> list[Member]:
        return [member for member in self.corpus.sources[name].read(place).members if member.modality is self.kind]

    def _holds(self, name: str) -> bool:
        size = len(self.corpus.sources[name])
        for place in range(0, size, max(1, size // PROBES)):
            try:
                if self._members(name, place):
                    return True
            except BadSample:
                continue
        return False
