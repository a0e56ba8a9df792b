"""The multi-scale codes of a picture or clip, from what is kept of it: its latent, or its bits alone.

    latent   quantized, with flips where history is corrupted
    bits     S_k = S_{k-1} + value of the stored bits: the same numbers as quantizing again without flips, and nothing can be flipped

Ours. Letters: K scales, N_k positions of a scale, d bits.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.tokenizers.base import Quantizer, ScaleCodes, VisionBits, VisionCodes


def scale_codes(quantizer: Quantizer, codes: VisionCodes | VisionBits, flips: tuple[Tensor, ...] | None = None) -> ScaleCodes:
    """The codes of all scales. `flips` as for `Quantizer.encode`; ValueError with bits alone, because targets would need the latent."""
    if isinstance(codes, VisionCodes):
        return quantizer.encode(codes.latent, flips)
    if flips is not None:
        raise ValueError("data.history.flip_max must be 0 for shards that hold bits alone: the targets after a flip need the latent; "
                         "tokenize without --bits")
    _, _, height, width = codes.shape
    total = torch.zeros(codes.shape)
    targets, reads = [], []
    sizes = [h * w for h, w in quantizer.scales(height, width)]
    for scale, bits in enumerate(codes.bits.split(sizes, dim=1)):
        if scale:
            reads.append(quantizer.read(total, scale))
        targets.append(bits.float())
        total = quantizer.add(total, bits, scale)
    return ScaleCodes(bits=tuple(targets), reads=tuple(reads), total=total, pooled=quantizer.read(total, 0))
