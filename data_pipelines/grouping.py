"""From segments and their codes to token groups: the report's Fig. 2 and 3 as code.

    text          each token reads itself and predicts the next
    image, clip   BOI/BOV -> scale 1 | map of scale k -> scale k ... | pooled sum -> next frame's scale 1, and NEXT_FRAME or EOV
    sound         BOA -> frame 1 | frame i -> frame i+1 ... | last frame -> end of sound in every level
                  SPEAKER before BOA where it is known who speaks: read with its vector, never predicted
    understood    BOx, tokens without target, EOx, SEP, then the text about it

Report: §2.2-2.3, Fig. 2-3. Ours: decisions 4-7, 12 (who predicts the end; where positions stand). A document is BOS ... EOS.
Letters: N positions, T frames, K scales, d bits, Q codebooks.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.group_audio import sound_groups
from ernie5.data_pipelines.group_vision import picture_groups, understood_groups
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.sequence import Kind, Modality, Role, Segment, TokenGroups
from ernie5.tokenizers.base import Quantizer, VisionBits, VisionCodes
from ernie5.tokenizers.special_tokens import SpecialToken
from ernie5.uni_rope import index_after, line_coords

BEGIN = {Modality.IMAGE: SpecialToken.BOI, Modality.VIDEO: SpecialToken.BOV, Modality.AUDIO: SpecialToken.BOA}
END = {Modality.IMAGE: SpecialToken.EOI, Modality.VIDEO: SpecialToken.EOV, Modality.AUDIO: SpecialToken.EOA}


@dataclass(frozen=True)
class Coded:
    """A segment with its codes: text ids `n`, audio codes `f Q`, VisionCodes; `pixels` uint8 `t c h w` for the understanding path;
    `speaker` float `v` of a sound.
    """

    modality: Modality
    role: Role
    codes: Tensor | VisionCodes | VisionBits
    pixels: Tensor | None = None
    speaker: Tensor | None = None

    @classmethod
    def of(cls, segment: Segment, codes: Tensor | VisionCodes | VisionBits) -> "Coded":
        return cls(segment.modality, segment.role, codes, segment.media if isinstance(segment.media, Tensor) else None, segment.speaker)


@dataclass(frozen=True)
class Grouping:
    """What turning codes into groups needs to know. `prompt_weight`: loss weight of text that conditions a generated medium."""

    quantizer: Quantizer
    num_codebooks: int
    codebook_size: int
    history: HistoryConfig = HistoryConfig(flip_max=0.0, frame_drop=0.0)
    prompt_weight: float = 1.0
    merge: int = 2
    chunk_frames: int = 4

    def document(self, segments: list[Coded], random: np.random.Generator, ended: bool = True) -> list[TokenGroups]:
        """All groups of one sample, in order. `ended` False leaves the document open (a prompt to be continued)."""
        builder = _Builder()
        builder.text([int(SpecialToken.BOS)], segment=0)
        for number, segment in enumerate(segments):
            if segment.modality is Modality.TEXT:
                assert isinstance(segment.codes, Tensor)
                conditions = any(s.role is Role.GENERATE and s.modality is not Modality.TEXT for s in segments[number + 1 :])
                builder.text(array("q", segment.codes.numpy().tobytes()), number, weight=self.prompt_weight if conditions else 1.0)
                continue
            generate = segment.role is Role.GENERATE
            if generate and segment.speaker is not None:
                builder.speaker(segment.speaker, number)
            builder.text([int(BEGIN[segment.modality])], number, predicted=generate)
            origin = builder.origin
            if segment.modality is Modality.AUDIO:
                assert isinstance(segment.codes, Tensor)
                blocks = sound_groups(segment.codes, number, origin, generate, self.codebook_size)
            elif generate:
                assert isinstance(segment.codes, VisionCodes | VisionBits)
                blocks = picture_groups(segment.codes, segment.modality, number, origin, self.quantizer, self.history, random)
            else:
                blocks = understood_groups(segment, number, origin, self.merge, self.chunk_frames)
            builder.media(blocks)
            builder.text([int(END[segment.modality])], number, predicted=False)
            if not generate:
                builder.text([int(SpecialToken.SEP)], number)
        return builder.document(ended)


class _Builder:
    """Collects runs of text and blocks of media, counts the running index, and gives every text position the target that follows it."""

    def __init__(self) -> None:
        self.done: list[TokenGroups] = []
        self.index = 0
        self.segment = 0
        self._open()

    def _open(self) -> None:
        self.ids = array("q")      # the open run of text: what is read,
        self.targets = array("q")  # what is predicted (-1 = nothing),
        self.weights = array("f")  # and how much it counts; arrays become tensors without a look at every number
        self.speakers: list[Tensor] = []

    def text(self, ids: "list[int] | array[int]", segment: int, weight: float = 1.0, predicted: bool = True) -> None:
        """Append text positions; the position before them predicts the first, unless that is not the model's to predict."""
        if not ids:
            return
        if predicted:
            self._aim(ids[0], weight)
        self.segment = segment  # a run may span text segments: only generated frames look at the number
        self.ids.extend(ids)
        self.targets.extend(ids[1:])
        self.targets.append(-1)
        self.weights.extend(array("f", [weight]) * len(ids))

    def speaker(self, vector: Tensor, segment: int) -> None:
        """Append a speaker slot; it is given, so nothing predicts it."""
        self.text([int(SpecialToken.SPEAKER)], segment, predicted=False)
        self.speakers.append(vector)

    @property
    def origin(self) -> int:
        """Where a medium that begins now stands."""
        return self.index + len(self.ids)

    def media(self, blocks: list[TokenGroups]) -> None:
        """Append the blocks of a medium. An empty first block carries the target of the begin token before it."""
        first, *rest = blocks
        if len(first):
            self._close()
        else:
            self._close(first)
            blocks = rest
        self.done += blocks
        self.index = max([self.index, *(index_after(block.coords) for block in blocks)])

    def document(self, ended: bool) -> list[TokenGroups]:
        """All blocks; an ended document predicts EOS at its last text position."""
        if ended:
            self._aim(int(SpecialToken.EOS), 1.0)
        self._close()
        return self.done

    def _aim(self, target: int, weight: float) -> None:
        if self.ids:  # else a medium comes before, and its end is decided elsewhere
            self.targets[-1], self.weights[-1] = target, weight

    def _close(self, carried: TokenGroups | None = None) -> None:
        if not self.ids:
            return
        size = len(self.ids)
        self.done.append(
            TokenGroups(
                segment=self.segment, kind=Kind.TEXT, group=torch.arange(size), coords=line_coords(self.index, size),
                text=torch.frombuffer(self.ids, dtype=torch.int64), text_target=torch.frombuffer(self.targets, dtype=torch.int64),
                text_weight=torch.frombuffer(self.weights, dtype=torch.float32),
                speaker=torch.stack(self.speakers) if self.speakers else None,
                vision_target=None if carried is None else carried.vision_target,
                vision_weight=1.0 if carried is None else carried.vision_weight,
                audio_target=None if carried is None else carried.audio_target,
            )
        )
        self.index += size
        self._open()
