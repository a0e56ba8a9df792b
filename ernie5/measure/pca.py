"""PCA of pixel blocks as a baseline: the best linear transform of a block, at the bits that the tokenizer spends on it.

    block x (stride x stride x 3)  ->  c = W^T (x - mean)  ->  each c_i by a scalar quantizer of b_i bits  ->  x' = mean + W c'
    b: one bit at a time to the coefficient whose expected error, var_i / 4^(b_i), is largest      sum b_i = the block's whole bits
    quantizer of b bits: 2^b values fitted to the coefficients seen (Lloyd's rounds, started at quantiles)
Fitted on other pictures than it is measured on. Codes have a fixed length, as the tokenizer's have: no entropy coding on either side.
Source: Lloyd 1982; Huang and Schultheiss 1963 (bit allocation). Letters: N blocks, p = 3 stride^2 values, h w pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

MAX_BITS, ROUNDS, MAX_BLOCKS = 8, 12, 20_000


@dataclass(frozen=True)
class BlockPca:
    """`basis` p k, one column a coefficient that has bits; `values`: the 2^b values of each coefficient, ascending."""

    stride: int
    mean: Tensor
    basis: Tensor
    values: tuple[Tensor, ...]

    @property
    def bits(self) -> int:
        """Of one block."""
        return sum((len(v) - 1).bit_length() for v in self.values)

    def reconstruct(self, picture: Tensor) -> Tensor:
        """uint8 `1 3 h w` (multiples of the stride) -> the same after coding."""
        size = self.stride
        coefficients = (_blocks(picture, size) - self.mean) @ self.basis                                  # N k
        coded = [values[_nearest(values, c)] for values, c in zip(self.values, coefficients.unbind(1), strict=True)]
        restored = self.mean + (torch.stack(coded, 1) @ self.basis.mT if coded else torch.zeros_like(self.mean))
        restored = restored.expand(len(coefficients), -1).clamp(0, 255).round().to(torch.uint8)
        return rearrange(restored, "(h w) (c a b) -> 1 c (h a) (w b)", c=3, a=size, b=size, h=picture.shape[-2] // size)


def fit_pca(pictures: Sequence[Tensor], stride: int, bits: int) -> BlockPca:
    """uint8 `1 3 h w` each -> the coder that spends `bits` on a block. The same pictures give the same coder."""
    every = torch.cat([_blocks(picture, stride) for picture in pictures])                                 # N p
    blocks = every[:: -(-len(every) // MAX_BLOCKS)]
    mean = blocks.mean(0)
    centred = blocks - mean
    variances, basis = torch.linalg.eigh(centred.mT @ centred / len(blocks))
    variances, basis = variances.flip(0).clamp_min(0), basis.flip(1)
    allotted = allot(variances, bits)
    used = int((allotted > 0).sum())
    coefficients = centred @ basis[:, :used]
    values = tuple(_lloyd(c, 2 ** int(b)) for c, b in zip(coefficients.unbind(1), allotted[:used], strict=True))
    return BlockPca(stride, mean, basis[:, :used], values)


def allot(variances: Tensor, bits: int) -> Tensor:
    """Descending variances `p` -> whole bits of each coefficient, non-increasing, at most `MAX_BITS`, `bits` in all if they fit."""
    allotted, errors = torch.zeros(len(variances), dtype=torch.int64), variances.clone().double()
    for _ in range(bits):
        worst = int(errors.argmax())
        if errors[worst] <= 0:
            break
        allotted[worst] += 1
        errors[worst] = errors[worst] / 4 if allotted[worst] < MAX_BITS else -1.0
    return allotted


def _blocks(picture: Tensor, size: int) -> Tensor:
    return rearrange(picture.double(), "1 c (h a) (w b) -> (h w) (c a b)", a=size, b=size)


def _lloyd(x: Tensor, count: int) -> Tensor:
    """`count` values (ascending) for the numbers `N`."""
    values = torch.quantile(x[:100_000], (torch.arange(count, dtype=x.dtype) + 0.5) / count)
    for _ in range(ROUNDS):
        cell = _nearest(values, x)
        number = cell.bincount(minlength=count)
        total = torch.zeros_like(values).index_add_(0, cell, x)
        values = torch.where(number > 0, total / number.clamp_min(1), values).sort().values
    return values


def _nearest(values: Tensor, x: Tensor) -> Tensor:
    """The index of the nearest of ascending values."""
    return torch.bucketize(x.contiguous(), (values[1:] + values[:-1]) / 2)
