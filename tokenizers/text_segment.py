"""Words in scripts that put no spaces between them, found from the corpus alone (branching entropy), or by ICU's dictionaries.

    H(x)  = entropy of the character after x (and before x);    V(x) = H(x) - H(x without its last character) - mean of that length
    words = argmax sum over words of  length (V_after + V_before) - WORD_COST          what ends a word leaves open what follows

A line's border counts as another neighbour each time. Only parts of the asked phrases are counted: memory follows the vocabulary, not the
corpus. Letters and their signs (vowels, tones, joined consonants) are one unit and never parted.
Report: §3.1 names no segmenter. Ours: this one (nVBE of Magistry and Sagot, 2012; WORD_COST and the borders are ours), measured in
docs/experiments.md. Any `module:callable` from str to list of str takes its place.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

Segmenter = Callable[[str], list[str]]

# Thai, Lao, Burmese (with its extensions), Khmer, kana, Han
UNSPACED = ("\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\ua9e0-\ua9ff\uaa60-\uaa7f\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf"
            "\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff")
RUN = re.compile(f"[{UNSPACED}]+")
MAX_RUNS = 200_000  # the most frequent ones are looked at
WORD_COST = 3.0
_BEFORE = "เแโใไເແໂໃໄ"   # vowels written before their consonant
_AFTER = "ะาๅำະາຳ"       # vowels written after it, letters to Unicode
_JOINS = "\u17d2\u1039"  # the next consonant is written below


def units(text: str) -> list[str]:
    """`text` as the smallest parts that a word may consist of; joined, they are `text`."""
    found: list[str] = []
    for c in text:
        if found and (unicodedata.category(c)[0] == "M" or c in _AFTER or found[-1][-1] in _BEFORE or found[-1][-1] in _JOINS):
            found[-1] += c
        else:
            found.append(c)
    return found


class _Part(NamedTuple):
    after: Counter[str]   # units that follow; "" = the border
    before: Counter[str]


class BranchingEntropy:
    """A segmenter for `phrases` and their parts, learnt from `counts` of words (unspaced runs of any length)."""

    def __init__(self, counts: Mapping[str, int], phrases: Iterable[str]) -> None:
        parts: dict[str, list[str]] = {}
        for phrase in phrases:
            whole = units(phrase)
            for i in range(len(whole)):
                for j in range(i + 1, len(whole) + 1):
                    parts["".join(whole[i:j])] = whole[i:j]
        seen = {part: _Part(Counter(), Counter()) for part in parts}
        longest = max(map(len, parts.values()), default=0)
        for run, n in _runs(counts):
            _count(units(run), n, longest, seen)
        after = _open_ends({part: _entropy(s.after) for part, s in seen.items()}, {p: "".join(u[:-1]) for p, u in parts.items()}, parts)
        before = _open_ends({part: _entropy(s.before) for part, s in seen.items()}, {p: "".join(u[1:]) for p, u in parts.items()}, parts)
        self.worth = {part: len(u) * (after[part] + before[part]) - WORD_COST for part, u in parts.items()}

    def __call__(self, phrase: str) -> list[str]:
        """The words of one of the phrases. KeyError for another one."""
        whole = units(phrase)
        best, start = [0.0], [0]
        for j in range(1, len(whole) + 1):
            worth, i = max((best[i] + self.worth["".join(whole[i:j])], -i) for i in range(j))
            best.append(worth)
            start.append(-i)
        found, end = [], len(whole)
        while end:
            found.append("".join(whole[start[end]:end]))
            end = start[end]
        return found[::-1]


def icu_words(phrase: str) -> list[str]:
    """The words of ICU's dictionaries (Thai, Lao, Khmer, Burmese, Chinese, Japanese). Needs `pip install icukit-pyicu`, or PyICU."""
    import icu

    breaks = icu.BreakIterator.createWordInstance(icu.Locale(""))
    breaks.setText(phrase)
    found, data, start = [], phrase.encode("utf-16-le"), 0
    for end in breaks:  # counted in UTF-16
        found.append(data[2 * start : 2 * end].decode("utf-16-le"))
        start = end
    return found


def _runs(counts: Mapping[str, int]) -> list[tuple[str, int]]:
    found: Counter[str] = Counter()
    for word, n in counts.items():
        for run in RUN.findall(word):
            found[run] += n
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))[:MAX_RUNS]


def _count(run: list[str], n: int, longest: int, seen: dict[str, _Part]) -> None:
    for i in range(len(run)):
        part = ""
        for j in range(i, min(len(run), i + longest)):
            part += run[j]
            if part in seen:
                seen[part].after[run[j + 1] if j + 1 < len(run) else ""] += n
                seen[part].before[run[i - 1] if i else ""] += n


def _entropy(neighbours: Counter[str]) -> float:
    """In bits; every border is a neighbour of its own."""
    total = neighbours.total()
    same = sum(n * math.log2(n) for unit, n in neighbours.items() if unit)
    return math.log2(total) - same / total if total else 0.0


def _open_ends(entropy: dict[str, float], shorter: dict[str, str], parts: dict[str, list[str]]) -> dict[str, float]:
    """How much more open the end of a part is than before its last unit, beside others of its length."""
    gain = {part: entropy[part] - entropy.get(shorter[part], 0.0) for part in parts}
    of_length: defaultdict[int, list[float]] = defaultdict(list)
    for part, value in gain.items():
        of_length[len(parts[part])].append(value)
    mean = {length: sum(values) / len(values) for length, values in of_length.items()}
    return {part: value - mean[len(parts[part])] for part, value in gain.items()}
