"""Attention inside each frame of a pack of patches, as NaViT packs pictures of any size: one rule, two ways to run it.

    patch i sees patch j   <=>   frame[i] == frame[j]

`FrameMask` is the reference: one dense mask over the whole pack. `FrameBuckets` is what runs: frames of about the same length, a quarter
apart at most, are padded to the longest of them and attend as a batch, so the cost is that of the frames (and up to a quarter of padding),
never that of the pack squared; frames of one length are neither padded nor masked. Tests hold the two equal.
Report: §2.2.2 names the ViT alone. Ours: packing, the buckets.
Letters: P patches of a pack, H heads, C head width, n frames of a bucket, s patches of the longest of them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

STEPS = 4  # lengths between two powers of two: the fewer, the more padding


class FrameAttention(Protocol):
    """Knows which patches see each other: q k v `P H C` -> `P H C`."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FrameMask:
    """`allowed: P P` bool. Memory and time grow with the square of the pack: for tests and for reading."""

    allowed: Tensor

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "FrameMask":
        """`lengths`: patches of every frame, in the order of the pack."""
        frame = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths, dtype=torch.int64))
        return cls((frame[:, None] == frame).to(device))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (rearrange(x, "p h c -> 1 h p c") for x in (q, k, v))
        return rearrange(F.scaled_dot_product_attention(q, k, v, attn_mask=self.allowed), "1 h p c -> p h c")


@dataclass(frozen=True)
class Bucket:
    """Frames that attend as one batch. `mask`: None where all are equally long."""

    index: Tensor        # n s      patches of the pack; a shorter frame repeats its first one at the end
    mask: Tensor | None  # n 1 1 s  bool: which of them are there


@dataclass(frozen=True)
class FrameBuckets:
    """`back: P`: where each patch of the pack lies in the buckets, `n s` of one after the other."""

    buckets: tuple[Bucket, ...]
    back: Tensor

    @classmethod
    def of(cls, lengths: tuple[int, ...], device: torch.device) -> "FrameBuckets":
        """`lengths`: patches of every frame, in the order of the pack."""
        length = torch.tensor(lengths, dtype=torch.int64)
        start = length.cumsum(0) - length
        alike = defaultdict(list)
        for frame, size in enumerate(lengths):
            alike[rounded(size)].append(frame)
        buckets, back, before = [], torch.zeros(sum(lengths), dtype=torch.int64), 0
        for _, frames in sorted(alike.items()):
            step = torch.arange(int(length[frames].max()))                                    # s
            there = step < length[frames][:, None]                                            # n s
            index = start[frames][:, None] + torch.where(there, step, 0)
            back[index[there]] = before + there.flatten().nonzero()[:, 0]
            before += index.numel()
            buckets.append(Bucket(index.to(device), None if there.all() else there[:, None, None].to(device)))
        if not buckets:  # attention on nothing: its weights get a gradient of zeros, not none
            buckets = [Bucket(torch.zeros(0, 1, dtype=torch.int64, device=device), None)]
        return cls(tuple(buckets), back.to(device))

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        parts = []
        for bucket in self.buckets:
            n, s = bucket.index.shape
            qb, kb, vb = (rearrange(x.index_select(0, bucket.index.flatten()), "(n s) h c -> n h s c", s=s) for x in (q, k, v))
            out = F.scaled_dot_product_attention(qb, kb, vb, attn_mask=bucket.mask)
            parts.append(rearrange(out, "n h s c -> (n s) h c"))
        return torch.cat(parts).index_select(0, self.back)


def rounded(length: int) -> int:
    """The next of `STEPS` lengths between powers of two: 5 6 7 8, 10 12 14 16, 20 …"""
    step = max(1, (1 << (length - 1).bit_length()) // (2 * STEPS))
    return -(-length // step) * step
