"""Rows of token groups -> PackedSequence: concatenation and position lists, nothing else.

Letters: B rows, S packed length, N positions of a block, n reads, m targets, d bits, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ernie5.sequence import Choice, PackedSequence, TokenGroups, UnderstandBatch


@dataclass(frozen=True)
class Widths:
    """Sizes of what a batch may lack: bits, codebooks, and the smallest understanding input `(c', patch, merge)`."""

    bits: int
    num_codebooks: int
    feature_dim: int
    patch: int
    merge: int = 2


@dataclass(frozen=True)
class PackedSample:
    """The groups of one document and its name."""

    id: str
    groups: list[TokenGroups]

    def __len__(self) -> int:
        return sum(len(block) for block in self.groups)


def collate(rows: list[list[PackedSample]], length: int, widths: Widths) -> PackedSequence:
    """B rows of samples -> one batch of B x `length`; a row that is too long is a bug of the packer."""
    parts = _Parts(length)
    for row, samples in enumerate(rows):
        cursor = row * length
        for number, sample in enumerate(samples):
            group = 0
            for block in sample.groups:
                parts.add(block, cursor, number, group)
                cursor += len(block)
                group += int(block.group[-1]) + 1
        assert cursor <= (row + 1) * length, f"row {row} holds {cursor - row * length} positions, more than {length}"
        parts.pad((row + 1) * length - cursor)
    return parts.finish(len(rows), widths, tuple(tuple(s.id for s in samples) for samples in rows))


class _Parts:
    """Lists of tensors that grow block by block."""

    def __init__(self, length: int) -> None:
        self.length = length
        self.lists: dict[str, list[Tensor]] = {}
        self.understand: dict[tuple[int, ...], list[tuple[Tensor, Tensor, Tensor]]] = {}

    def put(self, name: str, value: Tensor) -> None:
        self.lists.setdefault(name, []).append(value)

    def add(self, block: TokenGroups, cursor: int, sample: int, group: int) -> None:
        size = len(block)
        at = torch.arange(cursor, cursor + size)
        for name, value in (("sample", sample), ("segment", block.segment), ("kind", int(block.kind)), ("frame", block.frame)):
            self.put(name, torch.full((size,), value))
        self.put("group", block.group + group)
        self.put("kept", torch.full((size,), block.kept))
        self.put("coords", block.coords)
        self._reads(block, at)
        self._targets(block, at)

    def _reads(self, block: TokenGroups, at: Tensor) -> None:
        if block.text is not None:
            self.put("text_at", at)
            self.put("text", block.text)
        elif block.vision is not None:
            self.put("vision_at", at)
            self.put("vision", block.vision)
            self.put("vision_scale", torch.full((len(at),), block.scale))
        elif block.audio is not None:
            self.put("audio_at", at)
            self.put("audio", block.audio)
        elif block.understand is not None:
            pixels, features = block.understand.pixels, block.understand.features
            self.understand.setdefault((*pixels.shape, *features.shape), []).append((pixels, features, at))

    def _targets(self, block: TokenGroups, at: Tensor) -> None:
        if block.text_target is not None:
            has = block.text_target >= 0
            self.put("text_target_at", at[has])
            self.put("text_target", block.text_target[has])
            self.put("text_weight", block.text_weight[has])
            self.put("text_choice", torch.full((int(has.sum()),), int(block.choice)))
        if block.vision_target is not None:
            at_vision = at[-len(block.vision_target) :]
            self.put("vision_target_at", at_vision)
            self.put("vision_target", block.vision_target)
            self.put("vision_target_scale", torch.full((len(at_vision),), block.scale))
            self.put("vision_weight", torch.full((len(at_vision),), block.vision_weight))
        if block.audio_target is not None:
            at_audio = at[-len(block.audio_target) :]
            self.put("audio_target_at", at_audio)
            self.put("audio_target", block.audio_target)

    def pad(self, size: int) -> None:
        for name, value in (("sample", -1), ("segment", -1), ("kind", -1), ("frame", -1), ("group", 0)):
            self.put(name, torch.full((size,), value))
        self.put("kept", torch.ones(size, dtype=torch.bool))
        self.put("coords", torch.zeros(size, 3))

    def joined(self, name: str, *shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
        parts = [p for p in self.lists.get(name, []) if len(p)]
        return torch.cat(parts).to(dtype) if parts else torch.zeros((0, *shape), dtype=dtype)

    def finish(self, rows: int, widths: Widths, ids: tuple[tuple[str, ...], ...]) -> PackedSequence:
        def grid(name: str, dtype: torch.dtype = torch.int64) -> Tensor:
            return self.joined(name, dtype=dtype).view(rows, self.length)

        d, q, real = widths.bits, widths.num_codebooks, torch.float32
        sample = grid("sample")
        target_at, target, choice = self.joined("text_target_at"), self.joined("text_target"), self.joined("text_choice")
        return PackedSequence(
            sample=sample, segment=grid("segment"), kind=grid("kind"), group=grid("group"), frame=grid("frame"),
            kept=grid("kept", torch.bool), coords=self.joined("coords", 3, dtype=real).view(rows, self.length, 3),
            text_at=self.joined("text_at"), text=self.joined("text"),
            vision_at=self.joined("vision_at"), vision=self.joined("vision", d, dtype=real), vision_scale=self.joined("vision_scale"),
            audio_at=self.joined("audio_at"), audio=self.joined("audio", q), understand=self._understand(widths),
            text_target_at=target_at, text_target=target, text_weight=self.joined("text_weight", dtype=real), text_choice=choice,
            next_target=_next_targets(target_at, target, choice, sample.flatten()),
            vision_target_at=self.joined("vision_target_at"), vision_target=self.joined("vision_target", d, dtype=real),
            vision_target_scale=self.joined("vision_target_scale"), vision_weight=self.joined("vision_weight", dtype=real),
            audio_target_at=self.joined("audio_target_at"), audio_target=self.joined("audio_target", q), sample_ids=ids,
        )

    def _understand(self, widths: Widths) -> tuple[UnderstandBatch, ...]:
        if not self.understand:  # the encoder still runs, on nothing (decision 26)
            side = widths.merge
            pixels = torch.zeros(0, 1, 3, side * widths.patch, side * widths.patch, dtype=torch.uint8)
            return (UnderstandBatch(pixels, torch.zeros(0, 1, widths.feature_dim, side, side), torch.zeros(0, 1, dtype=torch.int64)),)
        return tuple(UnderstandBatch(*(torch.stack(column) for column in zip(*reads, strict=True))) for reads in self.understand.values())


def _next_targets(at: Tensor, target: Tensor, choice: Tensor, sample: Tensor) -> Tensor:
    """The target after next: defined where the very next position of the same sample also predicts free text."""
    if not len(at):
        return target
    adjacent = (at[1:] == at[:-1] + 1) & (sample[at[1:]] == sample[at[:-1]])
    both = adjacent & (choice[1:] == int(Choice.ANY)) & (choice[:-1] == int(Choice.ANY))
    return torch.cat([torch.where(both, target[1:], -1), torch.tensor([-1])])
