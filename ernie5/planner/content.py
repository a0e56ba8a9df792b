"""What stands in one micro-batch: how many positions there are, what they read and what they must predict.

A recipe alone does not say what its data hold, so plans assume rows full of text: the dearest case, because every position then has a
target among all text ids. What the understanding encoder does with pictures is not counted, only its weights. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.sequence import PackedSequence


@dataclass(frozen=True)
class Content:
    """`rows` x `length` positions; targets and reads are counted over all of them."""

    rows: int
    length: int
    text_targets: int = 0
    next_targets: int = 0
    vision_reads: int = 0
    vision_targets: int = 0
    audio_targets: int = 0

    @property
    def positions(self) -> int:
        return self.rows * self.length

    @classmethod
    def of_text(cls, rows: int, length: int) -> "Content":
        """Rows full of text."""
        return cls(rows, length, rows * length, rows * length)

    @classmethod
    def of(cls, packed: PackedSequence) -> "Content":
        """What a real micro-batch holds."""
        rows, length = packed.sample.shape
        return cls(rows, length, len(packed.text_target_at), int((packed.next_target >= 0).sum()), len(packed.vision_at),
                   len(packed.vision_target_at), len(packed.audio_target_at))
