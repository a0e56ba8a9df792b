"""What many samples have in common: counts, sizes and reasons, collected one sample after the other.

Memory: eight bytes a number and segment, and the places of the samples that are shown.
Ours: all of it.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from hashlib import blake2b
from heapq import heappush, heapreplace

import numpy as np

from ernie5.data_pipelines.sources import SourceConfig
from ernie5.inspect.examine import Part
from ernie5.inspect.open_paths import Problem
from ernie5.inspect.walk import Seen
from ernie5.sequence import Modality

SHOWN = 8          # examples of a direction
KEPT_PROBLEMS = 200
QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)
Place = tuple[str, SourceConfig, int]


@dataclass
class Survey:
    """Fill with `add`; read the rest. `numbers`: (modality, quantity) -> one value a segment, or a sample for tokens."""

    num_good: int = 0
    num_bytes: int = 0
    directions: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    segments: Counter[Modality] = field(default_factory=Counter)
    forms: dict[Modality, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    numbers: dict[tuple[str, str], array] = field(default_factory=lambda: defaultdict(lambda: array("d")))
    shapes: Counter[tuple[int, int]] = field(default_factory=Counter)  # of pictures, width and height
    languages: Counter[str] = field(default_factory=Counter)
    scripts: Counter[str] = field(default_factory=Counter)
    attributes: Counter[str] = field(default_factory=Counter)
    tokens: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    examples: dict[str, list[tuple[int, str, Place]]] = field(default_factory=lambda: defaultdict(list))
    problems: list[Problem] = field(default_factory=list)
    num_problems: int = 0
    num_notes: int = 0

    def add(self, found: Seen | Problem) -> None:
        """Count one finding."""
        if isinstance(found, Problem):
            self.num_notes += found.note
            self.num_problems += not found.note
            self.reasons[("note: " if found.note else "") + kind_of(found.reason)] += 1
            if len(self.problems) < KEPT_PROBLEMS:
                self.problems.append(found)
            return
        facts = found.facts
        self.num_good += 1
        self.directions[facts.direction] += 1
        self.sources[found.place[0]] += 1
        self.attributes.update(facts.attributes)
        for part in facts.parts:
            self._part(part)
        for kind, count in (found.tokens or {}).items():
            self.tokens[kind] += count
            self.numbers[kind, "tokens"].append(count)
        self._example(facts.direction, facts.id, found.place)

    def quantiles(self, modality: str, quantity: str) -> list[float]:
        """The least, 5 %, 50 %, 95 % and the most; empty when there is nothing."""
        values = self.numbers.get((modality, quantity))
        return [float(q) for q in np.quantile(np.frombuffer(values), QUANTILES)] if values else []

    def shown(self, direction: str) -> list[Place]:
        """Up to `SHOWN` samples, chosen by the hash of their ids: the same ones every time, from all over the data."""
        return [place for _, _, place in sorted(self.examples[direction], key=lambda e: (-e[0], e[1]))]

    def _part(self, part: Part) -> None:
        self.num_bytes += part.num_bytes
        self.segments[part.modality] += 1
        self.forms[part.modality][part.form] += 1
        pixels = part.height * part.width if part.height and part.width else None
        for quantity, value in (("bytes", part.num_bytes), ("seconds", part.seconds), ("pixels", pixels), ("characters", part.characters),
                                ("words", part.words), ("sample rate", part.rate_hz), ("speaker numbers", part.speaker)):
            if value is not None:
                self.numbers[part.modality.value, quantity].append(value)
        if part.height and part.width and part.modality is Modality.IMAGE:
            self.numbers["image", "aspect"].append(part.width / part.height)
            if len(self.shapes) < 10_000 or (part.width, part.height) in self.shapes:
                self.shapes[part.width, part.height] += 1
        if part.modality is Modality.TEXT:
            self.scripts[part.script or "no letters"] += 1
            if part.language is not None:
                self.languages[part.language] += 1

    def _example(self, direction: str, name: str, place: Place) -> None:
        entry = (-int.from_bytes(blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big"), name, place)
        kept = self.examples[direction]
        if len(kept) < SHOWN:
            heappush(kept, _Entry(entry))
        elif entry[0] > kept[0][0]:
            heapreplace(kept, _Entry(entry))


class _Entry(tuple):
    """Ordered by hash and name alone."""

    __slots__ = ()

    def __lt__(self, other: tuple) -> bool:
        return self[:2] < other[:2]


def kind_of(reason: str) -> str:
    """A reason without what differs from sample to sample: numbers, names, the number of the segment."""
    reason = re.sub(r"^segment \d+ \((\w+)\): ", r"\1: ", reason)
    reason = re.sub(r"'[^']*'|\"[^\"]*\"", "…", reason)
    reason = re.sub(r"\b(?:[0-9a-f]{2} ){2,3}[0-9a-f]{2}\b", "…", reason)
    return re.sub(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", "N", reason)[:200]
