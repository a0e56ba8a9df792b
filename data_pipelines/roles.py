"""Which segments the model reads and which it predicts, drawn anew for every pass over a sample.

    pair (text, medium):   generate:   text -> medium      (now and then without the text: the unconditional half of guidance)
                           understand: medium -> text
    document:              order kept; every medium is read or predicted

What comes as Role.UNDERSTAND stays that: an image at its own size (decode_media.py).

Report: §2 (understanding and generation in one model). Ours: the odds. The draw is a pure function of (seed, sample number).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ernie5.sequence import Modality, Role, Sample, Segment


@dataclass(frozen=True)
class RolesConfig:
    """How often an `image`, `video` or `audio` segment is predicted and not read; `condition_drop` acts on predicted pairs."""

    image: float = 0.5
    video: float = 0.5
    audio: float = 0.5
    condition_drop: float = 0.1

    def generate(self, modality: Modality) -> float:
        """The probability for a segment of this kind; text is always predicted."""
        return 1.0 if modality is Modality.TEXT else getattr(self, modality.value)

    def check(self) -> None:
        for key, value in vars(self).items():
            if not 0 <= value <= 1:
                raise ValueError(f"data.roles.{key} = {value} is a probability; use a number between 0 and 1")


def is_pair(sample: Sample) -> bool:
    """One text and one other medium, in any order."""
    return len(sample.segments) == 2 and [s.modality for s in sample.segments].count(Modality.TEXT) == 1


def text_and_medium(sample: Sample) -> tuple[Segment, Segment]:
    """The two segments of a pair, the text first."""
    first, second = sample.segments
    return (first, second) if first.modality is Modality.TEXT else (second, first)


def assign_roles(sample: Sample, random: np.random.Generator, config: RolesConfig) -> Sample:
    """The sample with a role on every segment, and a pair in the order that its role needs."""
    chance = random.random(len(sample.segments))
    drop = random.random() < config.condition_drop
    made = [bool(c < config.generate(s.modality)) and s.role is Role.GENERATE for s, c in zip(sample.segments, chance, strict=True)]
    if not is_pair(sample):
        roles = [Role.GENERATE if m else Role.UNDERSTAND for m in made]
        return Sample(sample.id, tuple(_as(s, r) for s, r in zip(sample.segments, roles, strict=True)), sample.attributes)
    return Sample(sample.id, _pair(*text_and_medium(sample), all(made), drop), sample.attributes)


def _pair(text: Segment, medium: Segment, generate: bool, drop: bool) -> tuple[Segment, ...]:
    text, medium = _as(text, Role.GENERATE), _as(medium, Role.GENERATE if generate else Role.UNDERSTAND)
    if not generate:
        return (medium, text)
    return (medium,) if drop else (text, medium)


def _as(segment: Segment, role: Role) -> Segment:
    return replace(segment, role=role)
