"""How long a sample is and what it teaches, without its media: what was learnt when it was last decoded.

Packing a global batch needs the length of every sample, collating needs the media of this rank's rows only. What is learnt here (name,
shapes of codes, or why the sample is damaged) is a function of the sample alone (of the draw, where augmentation or BPE-dropout may change
lengths: `SampleMaker.shape_key`); its length also depends on the roles of the draw.
Kept for the last 2^18 samples, so a corpus up to that size is decoded as a whole in its first epoch, and by the ranks in shares later.
Ours.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ernie5.data_pipelines.directions import direction
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.roles import RolesConfig, assign_roles
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality, Role, Sample, Segment

KEPT = 2**18
Shape = tuple[int, ...]


class Part(NamedTuple):
    """A segment without its medium. `role`: UNDERSTAND where it can only be read, else GENERATE."""

    modality: Modality
    shape: Shape
    role: Role



class Look(NamedTuple):
    """What is known of a good sample: its id, and what its segments are: modality, shapes (media, codes), role."""

    id: str
    parts: tuple[Part, ...]


class Measured(NamedTuple):
    """A sample under the roles of a draw: its positions, uncut, and its direction."""

    length: int
    direction: str


@dataclass
class Measure:
    """Looks at samples (or the reason why one is damaged), and the number of positions that a medium of a shape takes in either role."""

    grouping: Grouping
    roles: RolesConfig
    seed: int
    looks: OrderedDict[str, Look | str] = field(default_factory=OrderedDict)
    positions: dict[tuple[Part, Role], int] = field(default_factory=dict)

    def recall(self, key: str) -> Look | str | None:
        """What is known under this key; a str is the reason of a damaged one."""
        return self.looks.get(key)

    def learn(self, key: str, found: CodedSample | str) -> Look | str:
        """Keep what a sample looks like, or that it is damaged and why."""
        look = found if isinstance(found, str) else self._look(found)
        self.looks[key] = look
        if len(self.looks) > KEPT:
            self.looks.popitem(last=False)
        return look

    def of(self, look: Look, draw: Draw) -> Measured:
        """The length and direction of a sample in this draw."""
        plain = tuple(Segment(part.modality, str(number), part.role) for number, part in enumerate(look.parts))
        segments = assign_roles(Sample(look.id, plain, {}), stream(self.seed, "roles", draw.number), self.roles).segments
        sizes = (self.positions[look.parts[int(str(s.media))], s.role] for s in segments)
        return Measured(1 + sum(sizes), direction(segments))  # 1: the begin of the document

    def _look(self, coded: CodedSample) -> Look:
        parts = []
        for segment, codes in zip(coded.sample.segments, coded.codes, strict=True):
            part = Part(segment.modality, _shape(segment, codes), segment.role)
            parts.append(part)
            for role in (Role.UNDERSTAND,) if segment.role is Role.UNDERSTAND else Role:
                if segment.modality is Modality.TEXT:  # hardly two texts have the same length
                    self.positions[part, role] = len(codes)  # type: ignore[arg-type]
                elif (part, role) not in self.positions:
                    alone = self.grouping.document([Coded.of(replace(segment, role=role), codes)], np.random.default_rng(0))
                    self.positions[part, role] = sum(len(block) for block in alone) - 1
        return Look(coded.sample.id, tuple(parts))


def _shape(segment: Segment, codes: object) -> Shape:
    tensors = [codes] if isinstance(codes, Tensor) else [*vars(codes).values()]
    if isinstance(segment.media, Tensor) and segment.modality is not Modality.AUDIO:
        tensors.append(segment.media)
    if segment.speaker is not None:
        tensors.append(segment.speaker)
    return tuple(side for tensor in tensors for side in (*tensor.shape, -1))
