"""Context parallelism: every context rank has some positions of each row, and all of them when it comes to keys and values.

    rank r of n takes the chunks r and 2n - 1 - r of a row cut into 2n     early positions see little, late ones much: all work alike

Positions say themselves what they read and predict, where they stand and what they may see, so a part of a batch is a batch, and keys may
stand in any order. Only attention looks at other positions: it gathers keys and values (backward: their gradients are added up and shared
out). Report: §5.1. Letters: B rows, S positions, n context ranks, s = S/n, T = B*S, H' key-value heads, C head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

import torch
from torch import Tensor

from ernie5.model.attention_mask import AttentionMask, Where
from ernie5.model.elastic import Elastic
from ernie5.model.elastic_samples import SubModels
from ernie5.parallel.engine import MicroBatch
from ernie5.sequence import PackedSequence

OF_POSITIONS = ("sample", "segment", "kind", "group", "frame", "kept", "coords")
LISTS = {  # list of positions -> what lies beside it
    "text_at": ("text",),
    "vision_at": ("vision", "vision_scale"),
    "audio_at": ("audio",),
    "speaker_at": ("speaker",),
    "text_target_at": ("text_target", "text_weight", "text_choice", "next_target"),
    "vision_target_at": ("vision_target", "vision_target_scale", "vision_weight"),
    "audio_target_at": ("audio_target",),
}


def columns(length: int, size: int) -> Tensor:
    """`n s`: the positions of a row that each of `size` context ranks takes."""
    if length % (2 * size):
        raise ValueError(f"a row of {length} positions cannot be cut into {2 * size} chunks for parallel.context = {size}; "
                         f"make train.length a multiple of {2 * size}")
    chunks = torch.arange(length).view(2 * size, -1)
    return torch.cat([chunks[:size], chunks[size:].flip(0)], dim=1)


def part_of(packed: PackedSequence, ours: Tensor) -> PackedSequence:
    """The positions `ours: s` of every row. An understanding read comes along where any of its positions is ours."""
    rows, length = packed.sample.shape
    device = packed.sample.device
    nowhere = rows * len(ours)
    place = torch.full((rows, length), nowhere, device=device)                                   # B S -> our flat positions
    place[:, ours] = torch.arange(nowhere, device=device).view(rows, -1)
    place = place.flatten()
    changes: dict[str, Any] = {name: getattr(packed, name)[:, ours] for name in OF_POSITIONS}
    for positions, beside in LISTS.items():
        at = place[getattr(packed, positions)]
        here = at < nowhere
        changes |= {positions: at[here]} | {name: getattr(packed, name)[here] for name in beside}
    understand = []
    for batch in packed.understand:
        at = place[batch.positions]                                                             # M
        tokens = (at < nowhere).cpu().split([size.tokens for size in batch.sizes])
        understand.append(replace(batch, positions=at).select([bool(x.any()) for x in tokens]))
    changes["understand"] = tuple(understand)
    assert changes.keys() | {"sample_ids"} == {f.name for f in fields(packed)}, "a field that nobody cuts"
    return replace(packed, **changes)


def submodel_of(submodel: Elastic, ours: Tensor) -> Elastic:
    """A sub-model of each sample goes with its positions; which layers run is asked of all of them, so ranks agree."""
    return replace(submodel, part=submodel.part[:, ours]) if isinstance(submodel, SubModels) else submodel


@dataclass(frozen=True)
class Share:
    """What one context rank takes of a micro-batch, and where all keys stand, in the order in which they are gathered."""

    micro_batch: MicroBatch
    keys: Where

    @classmethod
    def of(cls, micro_batch: MicroBatch, rank: int, size: int) -> "Share":
        keys = Where.of(micro_batch.packed)
        if size == 1:
            return cls(micro_batch, keys)
        order = columns(micro_batch.packed.sample.shape[1], size).to(micro_batch.packed.sample.device)
        ours = order[rank]
        part = MicroBatch(part_of(micro_batch.packed, ours), submodel_of(micro_batch.submodel, ours))
        return cls(part, Where(*(x[:, order.flatten()] for x in keys)))


@dataclass(frozen=True)
class GatheredKeys:
    """An `AttentionMask` over the keys of all context ranks. `gather`: `s … -> S …`, rank after rank, with its gradient."""

    inner: AttentionMask
    gather: Callable[[Tensor], Tensor]

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        both = self.gather(torch.stack([k, v]).movedim(3, 0).contiguous())    # S 2 B H' C
        k, v = both.movedim(0, 3).unbind(0)
        return self.inner.attend(q, k, v)
