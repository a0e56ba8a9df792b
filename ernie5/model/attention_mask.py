"""Who sees whom: one predicate, two ways to run it.

    q sees k  <=>  sample[q] == sample[k]  and  group[k] <= group[q]
                   and, if both are generated frames of one segment and the frames differ:
                       frame[q] - frame[k] <= window  and  kept[k]

Bidirectional inside a group, causal between groups, nothing across samples. `DenseMask` is the reference and the CPU path (SDPA);
`FlexMask` compiles the same predicate into FlexAttention blocks for GPUs. A test holds the two equal.

Report: §2.2.3, §5.3 (globally causal, locally bidirectional; windowed temporal attention; random masking of history frames).
Letters: B rows, H heads, S queries, S' keys, C head width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from ernie5.sequence import PackedSequence


class Where(NamedTuple):
    """What the predicate needs to know of positions; fields broadcast against each other."""

    sample: Tensor
    segment: Tensor
    group: Tensor
    frame: Tensor
    kept: Tensor

    @classmethod
    def of(cls, packed: PackedSequence) -> "Where":
        return cls(packed.sample, packed.segment, packed.group, packed.frame, packed.kept)


def visible(q: Where, k: Where, window: int) -> Tensor:
    """The one predicate, elementwise over broadcast positions -> bool."""
    causal = (q.sample == k.sample) & (k.group <= q.group)
    other_frame = (q.segment == k.segment) & (q.frame >= 0) & (k.frame >= 0) & (q.frame != k.frame)
    remembered = (q.frame - k.frame <= window) & k.kept
    return causal & (~other_frame | remembered)


class AttentionMask(Protocol):
    """A mask knows how to attend under itself: q `B H S C`, k v `B H' S' C` -> `B H S C`."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class DenseMask:
    """`allowed: B 1 S S'` bool, for scaled_dot_product_attention."""

    allowed: Tensor

    @classmethod
    def build(cls, queries: Where, keys: Where, window: int) -> "DenseMask":
        q = Where(*(x[:, :, None] for x in queries))  # B S 1
        k = Where(*(x[:, None, :] for x in keys))     # B 1 S'
        return cls(visible(q, k, window).unsqueeze(1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, attn_mask=self.allowed, enable_gqa=q.shape[1] != k.shape[1])


@lru_cache(maxsize=1)
def _compiled_flex_attention() -> Callable[..., Tensor]:
    return torch.compile(flex_attention, dynamic=False)  # when first used: importing the compiler takes seconds


@dataclass(frozen=True)
class FlexMask:
    """The same predicate as blocks for FlexAttention (GPU; on CPU it has no backward pass)."""

    blocks: BlockMask

    @classmethod
    def build(cls, queries: Where, keys: Where, window: int) -> "FlexMask":
        def rule(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return visible(Where(*(x[b, i] for x in queries)), Where(*(x[b, j] for x in keys)), window)

        rows, length = queries.sample.shape
        return cls(create_block_mask(rule, rows, None, length, keys.sample.shape[1], device=str(queries.sample.device)))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        attend = _compiled_flex_attention() if q.is_cuda else flex_attention
        return attend(q, k, v, block_mask=self.blocks, enable_gqa=q.shape[1] != k.shape[1])
