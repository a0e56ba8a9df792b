"""From segments and their codes to token groups: the report's Fig. 2 and 3 as code.

    text          each token reads itself and predicts the next
    image, clip   BOI/BOV -> scale 1 | map of scale k -> scale k ... | pooled sum -> next frame's scale 1, and NEXT_FRAME or EOV
    sound         BOA -> frame 1 | frame i -> frame i+1 ... | last frame -> end of sound in every level
    understood    BOx, tokens without target, EOx, SEP, then the text about it

Report: §2.2-2.3, Fig. 2-3. Ours: decisions 4-7, 12 (who predicts the end; where positions stand). A document is BOS ... EOS.
Letters: N positions, T frames, K scales, d bits, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ernie5.data_pipelines.group_audio import sound_groups
from ernie5.data_pipelines.group_vision import picture_groups, understood_groups
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.sequence import Choice, Kind, Modality, Role, Segment, TokenGroups
from ernie5.tokenizers.base import Quantizer, VisionCodes
from ernie5.tokenizers.special_tokens import SpecialToken
from ernie5.uni_rope import index_after, line_coords

import numpy as np

BEGIN = {Modality.IMAGE: SpecialToken.BOI, Modality.VIDEO: SpecialToken.BOV, Modality.AUDIO: SpecialToken.BOA}
END = {Modality.IMAGE: SpecialToken.EOI, Modality.VIDEO: SpecialToken.EOV, Modality.AUDIO: SpecialToken.EOA}


@dataclass(frozen=True)
class Coded:
    """A segment with its codes: text ids `n`, audio codes `f Q`, VisionCodes; `pixels` uint8 `t c h w` for the understanding path."""

    modality: Modality
    role: Role
    codes: Tensor | VisionCodes
    pixels: Tensor | None = None

    @classmethod
    def of(cls, segment: Segment, codes: Tensor | VisionCodes) -> "Coded":
        return cls(segment.modality, segment.role, codes, segment.media if isinstance(segment.media, Tensor) else None)


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
        builder.text([SpecialToken.BOS], segment=0)
        for number, segment in enumerate(segments):
            if segment.modality is Modality.TEXT:
                conditions = any(s.role is Role.GENERATE and s.modality is not Modality.TEXT for s in segments[number + 1 :])
                builder.text(segment.codes, number, weight=self.prompt_weight if conditions else 1.0)
                continue
            generate = segment.role is Role.GENERATE
            builder.text([BEGIN[segment.modality]], number, predicted=generate)
            origin = builder.index
            if segment.modality is Modality.AUDIO:
                blocks = sound_groups(segment.codes, number, origin, generate, self.codebook_size)
            elif generate:
                blocks = picture_groups(segment.codes, segment.modality, number, origin, self.quantizer, self.history, random)
            else:
                blocks = understood_groups(segment, number, origin, self.merge, self.chunk_frames)
            builder.media(blocks)
            builder.text([END[segment.modality]], number, predicted=False)
            if not generate:
                builder.text([SpecialToken.SEP], number)
        if ended:
            builder.end()
        return builder.blocks


class _Builder:
    """Appends blocks, counts the running index and hands every text position the target that follows it."""

    def __init__(self) -> None:
        self.blocks: list[TokenGroups] = []
        self.index = 0

    def text(self, ids: list[int] | Tensor, segment: int, weight: float = 1.0, predicted: bool = True) -> None:
        """Append text positions; the text position right before them predicts the first (unless it is not the model's to predict)."""
        ids = torch.as_tensor(ids, dtype=torch.int64)
        if not len(ids):
            return
        if predicted:
            self._aim(int(ids[0]), weight)
        target = torch.cat([ids[1:], torch.tensor([-1])])
        self.blocks.append(
            TokenGroups(
                segment=segment, kind=Kind.TEXT, group=torch.arange(len(ids)), coords=line_coords(self.index, len(ids)), text=ids,
                text_target=target, text_weight=torch.full((len(ids),), weight),
            )
        )
        self.index += len(ids)

    def media(self, blocks: list[TokenGroups]) -> None:
        """Append the blocks of a medium. The first target of a generated medium belongs to its BOx position."""
        first, *rest = blocks
        if not len(first):  # only a target: hang it on the begin token
            begin = self.blocks[-1]
            self.blocks[-1] = replace(
                begin, vision_target=first.vision_target, vision_weight=first.vision_weight, audio_target=first.audio_target
            )
            blocks = rest
        self.blocks.extend(blocks)
        if blocks:
            self.index = max(self.index, max(index_after(b.coords) for b in blocks))

    def end(self) -> None:
        self._aim(int(SpecialToken.EOS), 1.0)

    def _aim(self, target: int, weight: float) -> None:
        if not self.blocks or self.blocks[-1].kind is not Kind.TEXT or self.blocks[-1].choice is not Choice.ANY:
            return
        last = self.blocks[-1]
        targets, weights = last.text_target.clone(), last.text_weight.clone()
        targets[-1], weights[-1] = target, weight
        self.blocks[-1] = replace(last, text_target=targets, text_weight=weights)
