"""A nested series of widths d_1 < d_2 < … = d: one tokenizer, whose first d_i bits are a tokenizer of d_i bits.

    bits    the latent is normalised and quantized per channel, so bits 1 .. d_i are the same bits whatever channels follow
    decoder reads the quantized sum of the first d_i channels, and 0 (the mean of every latent channel) in the others

A decoder that was only trained on all channels makes poor pictures of few; with a series every training step draws one width of it.
Report: §2.2.1 (a series of growing bit widths). Ours: one encoder and one decoder for all widths; how they are drawn.
Letters: n frames, d bits, h w latent grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ernie5.run.random_streams import stream


def check_series(series: Sequence[int], bits: int) -> None:
    """ValueError unless the series is empty, or rises from 1 or more to `bits`."""
    if series and (series[0] < 1 or series[-1] != bits or any(b <= a for a, b in zip(series, series[1:], strict=False))):
        raise ValueError(f"bit_series = {list(series)} must rise and end with bits = {bits}; for example {[max(1, bits // 2), bits]}")


def draw_width(series: Sequence[int], seed: int, purpose: str, step: int) -> int | None:
    """The width that the decoder reads in a training step: all bits in every second one on average, else any smaller width alike. None =
    all channels, where there is no series.
    """
    if not series:
        return None
    *narrow, widest = series
    drawn = int(stream(seed, f"{purpose}: bits", step).integers(2 * max(1, len(narrow))))
    return narrow[drawn] if drawn < len(narrow) else widest


def first_bits(total: Tensor, bits: int) -> Tensor:
    """The quantized sum `n d h w` of the first `bits` channels, 0 in the others: what a decoder reads of them."""
    return total if bits == total.shape[1] else torch.cat([total[:, :bits], torch.zeros_like(total[:, bits:])], dim=1)
