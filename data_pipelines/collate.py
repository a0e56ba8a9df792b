"""Rows of token groups -> PackedSequence: concatenation and position lists, nothing else.

Letters: B rows, S packed length, N positions of a block, n reads, m targets, d bits, Q codebooks.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from einops import rearrange
from torch import Tensor

from ernie5.sequence import Choice, PackedSequence, ReadSize, TokenGroups, UnderstandBatch, UnderstandRead
from ernie5.tokenizers.special_tokens import SpecialToken


@dataclass(frozen=True)
class Widths:
    """Bits that are on (the first of the tokenizer's: a batch holds no others), and sizes of what a batch may lack: codebooks, features
    and patches of understanding reads. `pack`: reads of all sizes are one batch; else one batch per size.
    """

    bits: int
    num_codebooks: int
    feature_dim: int
    patch: int
    pack: bool = False
    speaker_dim: int = 0


@dataclass(frozen=True)
class PackedSample:
    """The groups of one document and its name."""

    id: str
    groups: list[TokenGroups]

    def __len__(self) -> int:
        return sum(len(block) for block in self.groups)


def collate(rows: list[list[PackedSample]], length: int, widths: Widths) -> PackedSequence:
    """B rows of samples -> one batch of B x `length`; a row that is too long is a bug of the packer."""
    parts = _Parts(widths)
    for row, samples in enumerate(rows):
        for number, sample in enumerate(samples):
            group = 0
            for block in sample.groups:
                parts.add(block, number, group)
                group += int(block.group[-1]) + 1
        size = parts.cursor - row * length
        assert size <= length, f"row {row} holds {size} positions, more than {length}"
        parts.pad(length - size)
    return parts.finish(len(rows), length, widths, tuple(tuple(s.id for s in samples) for samples in rows))


class _Parts:
    """Lists that grow block by block: one number or tensor a block, joined at the end."""

    def __init__(self, widths: Widths) -> None:
        self.widths = widths
        self.cursor = 0
        self.spans: defaultdict[str, list[tuple[int, ...]]] = defaultdict(list)  # (start, size, value ...) per block
        self.tensors: defaultdict[str, list[Tensor]] = defaultdict(list)
        self.understand: dict[ReadSize | None, list[UnderstandBatch]] = {}

    def add(self, block: TokenGroups, sample: int, group: int) -> None:
        size, start = len(block), self.cursor
        self._span("all", start, size, sample, block.segment, int(block.kind), block.frame, int(block.kept), group)
        self._put("group", block.group)
        self._put("coords", block.coords)
        if block.text is not None:
            self._span("text", start, size)
            self._put("text", block.text)
            if block.speaker is not None:
                for at in (block.text == SpecialToken.SPEAKER).nonzero()[:, 0].tolist():
                    self._span("speaker", start + at, 1)
                self._put("speaker", block.speaker)
        elif block.vision is not None:
            self._span("vision", start, size, block.scale)
            self._put("vision", block.vision)
        elif block.audio is not None:
            self._span("audio", start, size)
            self._put("audio", block.audio)
        elif block.understand is not None:
            read = one_read(block.understand, torch.arange(start, start + size), self.widths.patch)
            self.understand.setdefault(None if self.widths.pack else read.sizes[0], []).append(read)
        self._targets(block, start, size)
        self.cursor += size

    def _targets(self, block: TokenGroups, start: int, size: int) -> None:
        if block.text_target is not None and block.text_weight is not None:
            self._span("text_target", start, size, int(block.choice))
            self._put("text_target", block.text_target)
            self._put("text_weight", block.text_weight)
        if block.vision_target is not None:  # a block may be longer than its targets: they belong to its last positions
            count = block.vision_target.shape[0]
            self._span("vision_target", start + size - count, count, block.scale)
            self._put("vision_target", block.vision_target)
            self._put("vision_weight", torch.full((count,), block.vision_weight))
        if block.audio_target is not None:
            count = block.audio_target.shape[0]
            self._span("audio_target", start + size - count, count)
            self._put("audio_target", block.audio_target)

    def pad(self, size: int) -> None:
        self._span("all", self.cursor, size, -1, -1, -1, -1, 1, 0)
        self._put("group", torch.zeros(size, dtype=torch.int64))
        self._put("coords", torch.zeros(size, 3))
        self.cursor += size

    def _span(self, name: str, *numbers: int) -> None:
        self.spans[name].append(numbers)

    def _put(self, name: str, value: Tensor) -> None:
        self.tensors[name].append(value)

    def _joined(self, name: str, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        return torch.cat(self.tensors[name]).to(dtype) if name in self.tensors else torch.zeros((0, *shape), dtype=dtype)

    def _spread(self, name: str, num_values: int = 0) -> tuple[Tensor, ...]:
        """Positions of all spans of a name, and their values repeated over them."""
        spans = torch.from_numpy(np.array(self.spans.get(name, []), np.int64)).reshape(-1, 2 + num_values)
        start, size, *values = spans.unbind(1)
        before = torch.repeat_interleave(start - (size.cumsum(0) - size), size)
        return (before + torch.arange(before.shape[0]), *(torch.repeat_interleave(value, size) for value in values))

    def finish(self, rows: int, length: int, widths: Widths, ids: tuple[tuple[str, ...], ...]) -> PackedSequence:
        d, q, real = widths.bits, widths.num_codebooks, torch.float32
        _, sample, segment, kind, frame, kept, first = (x.view(rows, length) for x in self._spread("all", 6))
        vision_at, vision_scale = self._spread("vision", 1)
        target_at, choice = self._spread("text_target", 1)
        target, weight = self._joined("text_target"), self._joined("text_weight", dtype=real)
        aims = target >= 0
        target_at, target, weight, choice = target_at[aims], target[aims], weight[aims], choice[aims]
        vision_target_at, vision_target_scale = self._spread("vision_target", 1)
        return PackedSequence(
            sample=sample, segment=segment, kind=kind, group=self._joined("group").view(rows, length) + first,
            frame=frame, kept=kept.bool(),
            coords=self._joined("coords", 3, dtype=real).view(rows, length, 3),
            text_at=self._spread("text")[0], text=self._joined("text"),
            vision_at=vision_at, vision=self._joined("vision", d, dtype=real)[:, :d], vision_scale=vision_scale,
            audio_at=self._spread("audio")[0], audio=self._joined("audio", q),
            speaker_at=self._spread("speaker")[0], speaker=self._joined("speaker", widths.speaker_dim, dtype=real),
            understand=self._understand(widths),
            text_target_at=target_at, text_target=target, text_weight=weight, text_choice=choice,
            next_target=_next_targets(target_at, target, choice, sample.flatten()),
            vision_target_at=vision_target_at, vision_target=self._joined("vision_target", d, dtype=real)[:, :d],
            vision_target_scale=vision_target_scale, vision_weight=self._joined("vision_weight", dtype=real),
            audio_target_at=self._spread("audio_target")[0], audio_target=self._joined("audio_target", q), sample_ids=ids,
        )

    def _understand(self, widths: Widths) -> tuple[UnderstandBatch, ...]:
        if not self.understand:  # the encoder still runs, on nothing (decision 26)
            p = widths.patch
            nothing = torch.zeros(0, dtype=torch.int64)
            return (UnderstandBatch(torch.zeros(0, 3, p, p, dtype=torch.uint8), torch.zeros(0, widths.feature_dim), nothing, ()),)
        return tuple(_side_by_side(reads) for reads in self.understand.values())


def one_read(read: UnderstandRead, positions: Tensor, patch: int) -> UnderstandBatch:
    """A picture or a chunk of a clip, cut into patches. ValueError when pixels and features do not belong together."""
    (frames, _, height, width), (f, _, h, w) = read.pixels.shape, read.features.shape
    if (f, h * patch, w * patch) != (frames, height, width):
        raise ValueError(f"features {tuple(read.features.shape)} do not fit pixels {tuple(read.pixels.shape)} with patches of {patch}; "
                         "take both from one medium, by a generation tokenizer of this stride")
    patches = rearrange(read.pixels, "f c (h a) (w b) -> (f h w) c a b", a=patch, b=patch)
    size = ReadSize(frames, h, w, len(positions))
    return UnderstandBatch(patches, rearrange(read.features, "f c h w -> (f h w) c"), positions, (size,))


def _side_by_side(reads: list[UnderstandBatch]) -> UnderstandBatch:
    patches, features, positions = (torch.cat(x) for x in zip(*((r.patches, r.features, r.positions) for r in reads), strict=True))
    return UnderstandBatch(patches, features, positions, tuple(size for read in reads for size in read.sizes))


def _next_targets(at: Tensor, target: Tensor, choice: Tensor, sample: Tensor) -> Tensor:
    """The target after next: defined where the very next position of the same sample also predicts free text."""
    if not len(at):
        return target
    adjacent = (at[1:] == at[:-1] + 1) & (sample[at[1:]] == sample[at[:-1]])
    both = adjacent & (choice[1:] == int(Choice.ANY)) & (choice[:-1] == int(Choice.ANY))
    return torch.cat([torch.where(both, target[1:], -1), torch.tensor([-1])])
