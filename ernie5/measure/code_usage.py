"""How well codes are used: what share of them, and how evenly.

    a bit        p = how often it is 1;  H = -p log2 p - (1 - p) log2(1 - p);   alive: H >= 0.8
    a codebook   p_k = how often code k;  H = -sum p_k log2 p_k;   perplexity 2^H;   normalised entropy H / log2 K;   dead: p_k = 0
n codes cannot use more than n of K: beside the share of codes in use stands what an even codebook would show, 1 - (1 - 1/K)^n.
Source: field practice. Ours: the bound of 0.8. Letters: n positions, d bits, K codes, Q levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

ALIVE = 0.8
JOINT_BITS = 20  # above, all combinations of bits are not counted


def bit_entropy(ones: Tensor, count: int) -> Tensor:
    """How often each bit was 1 (any shape), out of `count` -> entropies in bits, same shape."""
    p = (ones.double() / max(1, count)).clamp(0, 1)
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p)) / math.log(2)


@dataclass(frozen=True)
class Usage:
    """Of one codebook."""

    size: int            # K
    seen: int            # n
    used: int
    entropy_bits: float

    @property
    def plain(self) -> dict[str, float | int]:
        """What goes into the result file."""
        return {
            "codes": self.size, "seen": self.seen, "used_share": self.used / self.size, "dead": self.size - self.used,
            "even_share": even_share(self.size, self.seen), "entropy_bits": self.entropy_bits, "perplexity": 2**self.entropy_bits,
            "normalised_entropy": self.entropy_bits / math.log2(self.size) if self.size > 1 else 1.0,
        }


def even_share(size: int, seen: int) -> float:
    """The share of `size` codes that `seen` draws from an even codebook use on average."""
    return 1 - (1 - 1 / size) ** seen


def codebook_usage(codes: Tensor, size: int) -> Usage:
    """int64 `n` in 0..size - 1."""
    counts = codes.flatten().bincount(minlength=size).double()
    if len(counts) > size:
        raise ValueError(f"a code of {len(counts) - 1} must be below the codebook's size {size}; is this another tokenizer's code?")
    return Usage(size, int(counts.sum()), int((counts > 0).sum()), _entropy(counts))


def joint_usage(bits: Tensor) -> Usage | None:
    """bits `n d` (0 / 1) read as one code of 2^d; None where d is above `JOINT_BITS`."""
    num_bits = bits.shape[1]
    if num_bits > JOINT_BITS:
        return None
    codes = bits.long() @ (2 ** torch.arange(num_bits))
    counts = codes.unique(return_counts=True)[1].double()
    return Usage(2**num_bits, len(codes), len(counts), _entropy(counts))


def _entropy(counts: Tensor) -> float:
    """How often each code -> bits."""
    if not counts.sum():
        return 0.0
    p = counts / counts.sum()
    return max(0.0, float(-torch.xlogy(p, p).sum() / math.log(2)))
