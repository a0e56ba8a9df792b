"""How often each word stands in a corpus, in bounded memory: the rarest of too many different words are forgotten.

A corpus comes in chunks; each is counted by itself and added in order, so that the result depends on the chunks, never on who counts them.
Memory: at most twice `max_words` different words of at most `max_chars` characters, about 130 bytes each. Ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ernie5.tokenizers.text import words


class WordCounts:
    """Counts of at most about twice `max_words` words; longer words (unspaced scripts) are cut into parts of `max_chars`."""

    def __init__(self, max_chars: int, max_words: int) -> None:
        self.max_chars, self.max_words = max_chars, max_words
        self.counts: Counter[str] = Counter()

    def add_text(self, text: str) -> None:
        """Count the words of one text."""
        most = self.max_chars
        self.counts.update(part for word in words(text)
                           for part in ((word,) if len(word) <= most else (word[i : i + most] for i in range(0, len(word), most))))
        self._forget()

    def add(self, counts: Mapping[str, int]) -> None:
        """Add what was counted elsewhere."""
        self.counts.update(counts)
        self._forget()

    def _forget(self) -> None:
        if len(self.counts) > 2 * self.max_words:
            self.counts = Counter(dict(ranked(self.counts)[: self.max_words]))


def count_words(texts: Iterable[str], max_chars: int, max_words: int) -> Counter[str]:
    """How often each word stands in `texts`, which are read once."""
    found = WordCounts(max_chars, max_words)
    for text in texts:
        found.add_text(text)
    return found.counts


def ranked(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    """Most frequent first, equal counts by code points: `Counter.most_common` would follow the order of the texts."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
