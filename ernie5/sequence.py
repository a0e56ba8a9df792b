"""The nouns of the library: media segments, token groups and the packed sequence.

A packed position says what it *reads*, what it must *predict* and the *index of its group*. Then next-group-of-tokens
prediction is one mask rule and one sum of losses, and packing is concatenation:

    query q sees key k   <=>   sample[q] == sample[k]  and  group[k] <= group[q]
                               (two generated frames of one segment: also within the window, and not dropped)

Report: §2.1-2.3 (one objective for four modalities). Ours: the layout of the batch.
Letters: B rows, S packed length, T = B*S, N positions of a block, Q codebooks, d bits, v of a speaker vector; media `t c h w`, audio `n`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor


class Modality(str, Enum):
    """What a segment is made of."""

    TEXT = "text"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"


class Role(str, Enum):
    """What the model does with a segment: read it as context, or predict it group by group."""

    UNDERSTAND = "understand"
    GENERATE = "generate"


class Kind(int, Enum):
    """What a position reads, by modality and role (the split of the report's routing study)."""

    TEXT = 0
    IMAGE_UNDERSTAND = 1
    VIDEO_UNDERSTAND = 2
    AUDIO_UNDERSTAND = 3
    IMAGE_GENERATE = 4
    VIDEO_GENERATE = 5
    AUDIO_GENERATE = 6


class Choice(int, Enum):
    """The classes among which a text target is chosen. The end of an image is certain, so it needs none (decision 5)."""

    ANY = 0          # the whole text vocabulary
    NEXT_OR_END = 1  # {NEXT_FRAME, EOV}: does the clip go on?


@dataclass(frozen=True)
class Segment:
    """One medium in the order of its document.

    `media`: text `str`; image and video uint8 `t c h w` (an image is a video of one frame); audio float32 `n` in [-1, 1].
    `speaker`: of a sound, who speaks, float32 `v`; None = not known.
    """

    modality: Modality
    media: str | Tensor
    role: Role = Role.GENERATE
    speaker: Tensor | None = None


@dataclass(frozen=True)
class Sample:
    """One document: ordered segments, and where it came from (`source/shard/key`)."""

    id: str
    segments: tuple[Segment, ...]
    attributes: dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class UnderstandRead:
    """One picture (f = 1) or one chunk of a clip (f = 4) that the understanding encoder turns into N tokens."""

    pixels: Tensor    # uint8 f c h w
    features: Tensor  # float f c h' w', the generation encoder's last feature map of every frame


@dataclass(frozen=True)
class TokenGroups:
    """Consecutive positions of one segment: what they read, what they predict, how they are grouped.

    `group` counts from 0 inside the block: all zeros = one group predicted together; 0, 1, 2 … = one token after the other.
    Exactly one of the four reads is set. Targets are optional; a position may have a text and a vision target (decision 5).
    """

    segment: int
    kind: Kind
    group: Tensor                                # N        int64, starts at 0, non-decreasing
    coords: Tensor                               # N 3      float32 (t, h, w)
    frame: int = -1                              # generated frame this block belongs to; -1 = not a generated frame
    kept: bool = True                            # False: later frames may not look at this one
    text: Tensor | None = None                   # N        token ids
    speaker: Tensor | None = None                # k v      what the k SPEAKER tokens of `text` read besides, in order
    vision: Tensor | None = None                 # N d      accumulated feature, resized to this scale
    scale: int = 0                               #          which scale `vision` predicts
    audio: Tensor | None = None                  # N Q      codes of one codec frame a position
    understand: UnderstandRead | None = None
    text_target: Tensor | None = None            # N        ids, -1 = no target
    text_weight: Tensor | None = None            # N        float
    choice: Choice = Choice.ANY
    vision_target: Tensor | None = None          # N d      bits 0 / 1
    vision_weight: float = 1.0
    audio_target: Tensor | None = None           # N Q      codes; codebook_size = EOA; -1 = no target

    def __len__(self) -> int:
        return self.group.shape[0]


class ReadSize(NamedTuple):
    """One understanding read: so many frames of `height` x `width` patches, and the tokens that they become."""

    frames: int
    height: int
    width: int
    tokens: int

    @property
    def patches(self) -> int:
        """Patches of all its frames."""
        return self.frames * self.height * self.width


@dataclass(frozen=True)
class UnderstandBatch:
    """Understanding reads of any sizes side by side, patch after patch (read, frame, row, column), and the flat positions (of B*S) that
    their tokens fill.
    """

    patches: Tensor              # uint8 P 3 p p
    features: Tensor             # P c'
    positions: Tensor            # M      into B*S, read after read, row by row; B*S itself: on another context rank
    sizes: tuple[ReadSize, ...]  # n      reads; on the host, because they decide shapes

    def select(self, keep: list[bool]) -> "UnderstandBatch":
        """Some of the `n` reads."""
        if all(keep):
            return self
        device = self.positions.device

        def of(counts: list[int]) -> Tensor:
            return torch.repeat_interleave(torch.tensor(keep, dtype=torch.bool), torch.tensor(counts, dtype=torch.int64)).to(device)

        patches, tokens = of([size.patches for size in self.sizes]), of([size.tokens for size in self.sizes])
        sizes = tuple(size for size, kept in zip(self.sizes, keep, strict=True) if kept)
        return UnderstandBatch(self.patches[patches], self.features[patches], self.positions[tokens], sizes)

    def to(self, device: torch.device | str) -> "UnderstandBatch":
        """The same reads on another device."""
        patches, features, positions = (x.to(device, non_blocking=True) for x in (self.patches, self.features, self.positions))
        return UnderstandBatch(patches, features, positions, self.sizes)


@dataclass(frozen=True)
class PackedSequence:
    """A micro-batch: B rows of S positions that hold whole samples side by side; position lists index the flat B*S.

    `sample` is -1 at padding. `group` grows along a sample. Lists may be empty: the modules behind them still run.
    """

    sample: Tensor         # B S   int64
    segment: Tensor        # B S   int64
    kind: Tensor           # B S   int64 Kind, -1 at padding
    group: Tensor          # B S   int64
    frame: Tensor          # B S   int64
    kept: Tensor           # B S   bool
    coords: Tensor         # B S 3 float32
    # what a position reads
    text_at: Tensor        # n     positions
    text: Tensor           # n     ids
    vision_at: Tensor      # n
    vision: Tensor         # n a   of the d bits of a token the first a that are on: decision 8
    vision_scale: Tensor   # n
    audio_at: Tensor       # n
    audio: Tensor          # n Q
    speaker_at: Tensor     # n     SPEAKER tokens that have a vector; they are in `text_at` too
    speaker: Tensor        # n v
    understand: tuple[UnderstandBatch, ...]
    # what a position must predict
    text_target_at: Tensor       # m
    text_target: Tensor          # m
    text_weight: Tensor          # m   float
    text_choice: Tensor          # m   Choice
    next_target: Tensor          # m   the target after next (multi-token prediction), -1 = none
    vision_target_at: Tensor     # m
    vision_target: Tensor        # m a float 0 / 1
    vision_target_scale: Tensor  # m
    vision_weight: Tensor        # m   float
    audio_target_at: Tensor      # m
    audio_target: Tensor         # m Q
    sample_ids: tuple[tuple[str, ...], ...]  # per row, in the order of `sample`

    @property
    def num_tokens(self) -> int:
        """Positions that are not padding."""
        return int((self.sample >= 0).sum())

    def to(self, device: torch.device | str) -> "PackedSequence":
        """The same batch on another device."""
        moved = {f.name: getattr(self, f.name) for f in fields(self)}
        moved = {k: v.to(device, non_blocking=True) if isinstance(v, Tensor) else v for k, v in moved.items()}
        return replace(self, **{**moved, "understand": tuple(batch.to(device) for batch in self.understand)})
