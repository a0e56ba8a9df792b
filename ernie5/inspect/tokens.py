"""How many positions a sample takes in a packed sequence, by the tokenizers of a run.

    text            its tokens
    image, clip     generated: all scales of all frames; read: merged tokens of the understanding path
    sound           codec frames
    document        all of it, every medium generated that can be, with begin, end and other control tokens

Media of one shape take equally many, so only the first of each shape is encoded.
Ours: the table; the layout is the training's own (grouping.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.encode import CodedSample, Tokenizers
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.inspect.from_recipe import recipe_of
from ernie5.sequence import Kind, Modality, Role, Sample, Segment
from ernie5.tokenizers.base import VisionBits, VisionCodes
from ernie5.train.assemble import grouping_of
from ernie5.train.prepare import load_tokenizers

Codes = Tensor | VisionCodes | VisionBits
Shape = tuple[Modality, tuple[int, ...], Role, bool]


@dataclass(frozen=True)
class Lengths:
    """Counts positions; `known` keeps (inside the medium, with its control tokens) of every shape."""

    tokenizers: Tokenizers
    grouping: Grouping
    speaker_dim: int = 0
    known: dict[Shape, tuple[int, int]] = field(default_factory=dict)

    def of(self, segment: Segment, codes: Codes | None) -> tuple[int, int]:
        """Positions of a segment in its role, without and with control tokens. `codes`: those that are stored of it."""
        if isinstance(segment.media, str):
            size = len(codes if isinstance(codes, Tensor) else self.tokenizers.text.encode(segment.media))
            return size, size
        if not self.speaker_dim:  # a model without the slot
            segment = replace(segment, speaker=None)
        sized = codes if isinstance(codes, Tensor) else segment.media  # of sounds only the codes are kept
        shape = (segment.modality, tuple(sized.shape), segment.role, segment.speaker is not None)
        if shape not in self.known:
            self.known[shape] = self._encoded(segment, codes)
        return self.known[shape]

    @torch.no_grad()
    def _encoded(self, segment: Segment, codes: Codes | None) -> tuple[int, int]:
        if codes is None:
            codes = self.tokenizers.of(segment.modality).encode(segment.media)
            assert codes is not None
        blocks = self.grouping.document([Coded.of(segment, codes)], np.random.default_rng(0))
        return sum(len(b) for b in blocks if b.kind is not Kind.TEXT), sum(len(b) for b in blocks) - 1  # 1: the begin of the document


@lru_cache(maxsize=2)
def lengths_of(run: str) -> Lengths:
    """The tokenizers of a run and how its documents are laid out, loaded once in a process. ValueError when there are none."""
    recipe = recipe_of(run)
    tokenizers = load_tokenizers(recipe)
    return Lengths(tokenizers, replace(grouping_of(recipe, tokenizers), history=HistoryConfig(flip_max=0.0, frame_drop=0.0)),
                   recipe.data.speaker.dim)


def count_tokens(run: str, sample: Sample | CodedSample) -> dict[str, int]:
    """`text`, `image generated`, `image read` … and `document`."""
    lengths = lengths_of(run)
    counts = {"document": 1}
    segments = sample.sample.segments if isinstance(sample, CodedSample) else sample.segments
    stored = sample.codes if isinstance(sample, CodedSample) else (None,) * len(segments)
    for segment, codes in zip(segments, stored, strict=True):
        inside, whole = lengths.of(segment, codes)
        counts["document"] += whole
        if segment.modality is Modality.TEXT:
            counts["text"] = counts.get("text", 0) + inside
            continue
        read, _ = lengths.of(replace(segment, role=Role.UNDERSTAND), codes)
        sizes = {"generated": inside, "read": read} if segment.role is Role.GENERATE else {"read": read}
        for role, size in sizes.items():
            name = f"{segment.modality.value} {role}"
            counts[name] = counts.get(name, 0) + size
    return counts
