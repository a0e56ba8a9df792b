"""Attention over this tensor rank's heads: the same code as in the plain model, between one exchange before and one after.

    x whole          copied: its gradient is added up over tensor ranks once, not once per projection
    x our positions  gathered (sequence parallel); the sum at the end leaves our positions again (linear.py, Row)

Report: §5.1. Letters: B rows, S positions, T = B*S, t = T/tensor our positions, D width.
"""

from __future__ import annotations

from megatron.core.tensor_parallel import copy_to_tensor_model_parallel_region, gather_from_sequence_parallel_region
from torch import Tensor, nn

from ernie5.model.attention import Attention
from ernie5.model.attention_mask import AttentionMask
from ernie5.model.cache import LayerCache
from ernie5.model.experts import compute_dtype
from ernie5.parallel.megatron.groups import Axis


class SplitAttention(Attention):
    """x `B S D`, or `1 t D` with `sequence`, and out likewise. Takes over the parts of an attention whose linear layers are swapped."""

    def __init__(self, swapped: Attention, axis: Axis, sequence: bool) -> None:
        nn.Module.__init__(self)
        self.head_dim, self.axis, self.sequence = swapped.head_dim, axis, sequence
        for name, part in swapped.named_children():
            self.add_module(name, part)

    def forward(self, x: Tensor, turn: Tensor, mask: AttentionMask, cache: LayerCache | None = None) -> Tensor:
        x = x.to(compute_dtype(x))  # before it travels, and once for three projections
        if self.sequence:
            rows, _, length, _ = turn.shape
            x = gather_from_sequence_parallel_region(x.flatten(0, 1), group=self.axis.group).unflatten(0, (rows, length))
        else:
            x = copy_to_tensor_model_parallel_region(x, self.axis.group)
        return super().forward(x, turn, mask, cache)
