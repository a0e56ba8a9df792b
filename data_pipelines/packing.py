"""Fill rows with whole samples: first fit over a stream, what does not fit waits for the next batch.

Nothing is split but a document longer than a row, which is cut at a group border (`cut`). The waiting list is part of the data state.
Ours. Letters: B rows, S packed length.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

import torch

from ernie5.data_pipelines.collate import PackedSample
from ernie5.sequence import TokenGroups
from ernie5.tokenizers.special_tokens import SpecialToken

Item = TypeVar("Item")


class Packer(Generic[Item]):
    """Rows of at most `length` positions; gives up on a batch after `patience` samples in a row found no room."""

    def __init__(self, num_rows: int, length: int, patience: int = 8) -> None:
        self.room = [length] * num_rows
        self.rows: list[list[Item]] = [[] for _ in range(num_rows)]
        self.patience = patience
        self.misses = 0
        self.waiting: list[Item] = []

    @property
    def full(self) -> bool:
        return self.misses >= self.patience or max(self.room) < 4

    def offer(self, item: Item, size: int) -> None:
        """Put the item into the first row with room, or on the waiting list."""
        row = next((i for i, room in enumerate(self.room) if size <= room), None)
        if row is None:
            self.waiting.append(item)
            self.misses += 1
        else:
            self.rows[row].append(item)
            self.room[row] -= size
            self.misses = 0

    def fill(self, items: Iterable[tuple[Item, int]]) -> None:
        """Offer (item, size) pairs until the rows are full or there are no more."""
        source: Iterator[tuple[Item, int]] = iter(items)
        while not self.full and (pair := next(source, None)):
            self.offer(*pair)


def cut(sample: PackedSample, length: int) -> PackedSample:
    """The sample, shortened to at most `length` positions at a group border."""
    if len(sample) <= length:
        return sample
    kept: list[TokenGroups] = []
    room = length
    for block in sample.groups:
        if len(block) > room:
            rest = head(block, room)
            kept += [rest] if rest is not None else []
            break
        kept.append(block)
        room -= len(block)
    return replace(sample, groups=kept)


def head(block: TokenGroups, room: int) -> TokenGroups | None:
    """The first whole groups of a block that fit; only text can be cut inside, a picture or sound cannot."""
    if block.text is None or room <= 0:
        return None
    targets = block.text_target[:room].clone()
    return replace(
        block, group=block.group[:room], coords=block.coords[:room], text=block.text[:room],
        speaker=None if block.speaker is None else block.speaker[: int((block.text[:room] == SpecialToken.SPEAKER).sum())],
        text_target=torch.where(torch.arange(room) < room - 1, targets, -1), text_weight=block.text_weight[:room],
        vision_target=None, audio_target=None,
    )
