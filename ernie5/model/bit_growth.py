"""A model of d bits that begins with the first a of them: what belongs to bits that are off is zero until they are switched on.

    input columns W[:, a:] = 0,  head rows V[a:] = 0          W is d wide, the columns that are on are drawn for a inputs

A batch holds the bits that are on and no others: their columns read 0 and their logits are left out of the loss, so their gradient is
exactly 0, and Adam and weight decay leave what is 0 at 0. Switching bits on therefore only widens the batches: weights and moments carry
over bit for bit, whatever engine holds them, and no logit of an old bit changes; a new bit begins at ln 2.
Report: §2.2.1 (the backbone switches from few bits to many). Ours: decision 8. Letters: D width, d bits, a of them on.
"""

from __future__ import annotations

import torch

from ernie5.model.unified_transformer import UnifiedTransformer


@torch.no_grad()
def begin_with(model: UnifiedTransformer, bits: int) -> None:
    """Make a fresh model, all of whose bits are on, one that begins with the first `bits`."""
    read, head = model.embeddings.vision.weight, model.heads.vision                      # D d,  d D
    read[:, :bits] *= (read.shape[1] / bits) ** 0.5
    read[:, bits:].zero_()
    head.weight[bits:].zero_()
    head.bias[bits:].zero_()
