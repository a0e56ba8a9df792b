"""The one objective: every position predicts the next group of tokens of its sample, whatever the modality.

    L = w_text (NTP + lambda MTP) + w_vision NFSP + w_audio NCP + w_router R,     each = sum over targets / count of the *global* step

Because counts are those of the whole step, summing `total` over micro-batches and ranks gives the step's loss, and the sum of their
gradients is its gradient, however the batch was cut (decision 24). A modality without targets gives 0, not NaN. R, the routers' own
loss per token, is 0 unless the recipe names a router that has one (router_auxiliary.py says what holds for it).
Report: §2.1. Ours: the working form above (the report prints no total).
"""

from __future__ import annotations

from dataclasses import astuple, dataclass

import torch
from torch import Tensor

from ernie5.model.heads import Heads
from ernie5.model.unified_transformer import Hidden
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_codec import next_codec_sum
from ernie5.objectives.next_scale import next_scale_sum
from ernie5.sequence import PackedSequence


@dataclass(frozen=True)
class Losses:
    """Scalars. The four terms are unweighted means over the step's targets, or this part's share of them; the total is weighted, and
    holds the routers' own loss too.
    """

    total: Tensor
    text: Tensor
    multi_token: Tensor
    vision: Tensor
    audio: Tensor

    def detached(self) -> Tensor:
        """The five numbers as one tensor, for adding up over micro-batches and ranks."""
        return torch.stack([self.total, self.text, self.multi_token, self.vision, self.audio]).detach()


@dataclass(frozen=True)
class TargetCounts:
    """Sums of target weights, and real positions, over the whole global step; what the losses are divided by."""

    text: float = 0.0
    multi_token: float = 0.0
    vision: float = 0.0
    audio: float = 0.0
    tokens: float = 0.0

    @classmethod
    def of(cls, packed: PackedSequence) -> "TargetCounts":
        """The counts of one micro-batch; add them up over the step."""
        next_weight = packed.text_weight[packed.next_target >= 0]
        text, multi_token, vision = (float(weight.sum()) for weight in (packed.text_weight, next_weight, packed.vision_weight))
        return cls(text, multi_token, vision, audio=float(len(packed.audio_target)), tokens=float(packed.num_tokens))

    def __add__(self, other: "TargetCounts") -> "TargetCounts":
        return TargetCounts(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


def next_group_loss(hidden: Hidden, heads: Heads, packed: PackedSequence, counts: TargetCounts, weights: Weights) -> Losses:
    """This micro-batch's share of the step's loss; heads are applied here. Of a stage of a pipeline: that of what left it."""
    text = multi_token = vision = audio = hidden.router_loss.new_zeros(())
    if hidden.text is not None:
        text = heads.text.nll_sum(hidden.text, packed.text_target, packed.text_weight, packed.text_choice) / max(counts.text, 1e-9)
    if hidden.next_text is not None:
        has_next = packed.next_target >= 0
        summed = heads.text.nll_sum(hidden.next_text, packed.next_target[has_next], packed.text_weight[has_next])
        multi_token = summed / max(counts.multi_token, 1e-9)
    if hidden.vision is not None:
        vision = next_scale_sum(heads.vision(hidden.vision), packed.vision_target, packed.vision_weight) / max(counts.vision, 1e-9)
    if hidden.levels:
        logits = {level: heads.audio_logits(level, h) for level, h in zip(hidden.levels, hidden.audio, strict=True)}
        audio = next_codec_sum(logits, packed.audio_target) / max(counts.audio, 1e-9)
    total = weights.text * text + weights.multi_token * multi_token + weights.vision * vision + weights.audio * audio
    total = total + weights.router * hidden.router_loss / max(counts.tokens, 1e-9)
    return Losses(total, text, multi_token, vision, audio)


class NextGroupLoss:
    """`next_group_loss` as the part that a recipe names (`train.objective`); your own class has the same call. A pipeline calls this one
    on every stage, with what left it.
    """

    def __call__(self, hidden: Hidden, heads: Heads, packed: PackedSequence, counts: TargetCounts, weights: Weights) -> Losses:
        return next_group_loss(hidden, heads, packed, counts, weights)
