"""Sequence parallelism: between products tensor ranks share the positions of the residual stream, `1 t D` instead of `B S D`.

A layer takes the stream whole or in parts and hands it on in parts, except where somebody needs all of it: after layers that emit audio
codes, after the last one, and where positions of some samples pass by the layer.
Report: §5.1. Letters: B rows, S positions, T = B*S, t = T/tensor our positions, D width.
"""

from __future__ import annotations

from megatron.core.tensor_parallel import gather_from_sequence_parallel_region, scatter_to_sequence_parallel_region
from torch import Tensor, nn

from ernie5.model.attention_mask import AttentionMask
from ernie5.model.cache import LayerCache
from ernie5.model.elastic import SubLayer
from ernie5.model.layer import UnifiedLayer
from ernie5.model.moe import Routed
from ernie5.model.multi_token import MultiToken
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.megatron.groups import Axis


def check_share(num_positions: int, axis: Axis) -> None:
    """ValueError where tensor ranks cannot have equal shares of the positions."""
    if num_positions % axis.size:
        raise ValueError(f"a micro-batch of {num_positions} positions cannot be shared by parallel.tensor = {axis.size} ranks; "
                         f"make train.length a multiple of {axis.size}")


def scattered(x: Tensor, kind: Tensor, axis: Axis) -> Tensor:
    """x `B S D` (or our positions already) -> our positions `1 t D`; the gradient comes back whole. `kind` is `B S`."""
    if x.shape[:2] != kind.shape:
        return x
    check_share(kind.numel(), axis)
    return scatter_to_sequence_parallel_region(x.flatten(0, 1), axis.group).unsqueeze(0)


def whole(x: Tensor, kind: Tensor, axis: Axis) -> Tensor:
    """Our positions `1 t D` (or all already) -> x `B S D`. What follows is computed alike on all tensor ranks, so each keeps its part of
    the gradient.
    """
    if x.shape[:2] == kind.shape:
        return x
    return gather_from_sequence_parallel_region(x.flatten(0, 1), tensor_parallel_output_grad=False, group=axis.group).view(*kind.shape, -1)


class SequenceLayer(UnifiedLayer):
    """x `B S D` or `1 t D` -> the same, or whole where `leaves_whole` or some positions pass by. Takes over the parts of a layer."""

    def __init__(self, layer: UnifiedLayer, axis: Axis, leaves_whole: bool) -> None:
        nn.Module.__init__(self)
        self.axis, self.leaves_whole = axis, leaves_whole
        for name, part in layer.named_children():
            self.add_module(name, part)

    def forward(
        self, x: Tensor, turn: Tensor, mask: AttentionMask, kind: Tensor, sub: SubLayer, cache: LayerCache | None = None
    ) -> tuple[Tensor, Routed]:
        x, routed = super().forward(scattered(x, kind, self.axis), turn, mask, kind, sub, cache)
        return whole(x, kind, self.axis) if self.leaves_whole or sub.runs is not None else x, routed


def swap_layers(model: UnifiedTransformer, axis: Axis) -> None:
    last = len(model.layers) - 1
    for index, layer in enumerate(model.layers):
        if isinstance(layer, UnifiedLayer):  # and is not on another stage
            model.layers[index] = SequenceLayer(layer, axis, leaves_whole=index == last or len(model.codec.levels(index)) > 0)
    if isinstance(model.multi_token, MultiToken):
        model.multi_token.layer = SequenceLayer(model.multi_token.layer, axis, leaves_whole=True)
