"""What Megatron's schedules run: one stage of the model. It takes the stream from the stage before and hands it on, `T 1 D`.

    chunk(loss_function, share) -> what leaves it, its losses      leaves the last stage: its loss;  any other: the stream

The losses of a stage that is not the last (audio codes, routers) join its backward pass: the stream passes an identity function that also
asks for their gradient. Nothing scales them (settings.py). Under sequence parallelism a tensor rank sends its own positions.
Report: §5.1. Letters: B rows, S positions, T = B*S, t our share of T, D width.
"""

from __future__ import annotations

from megatron.core.tensor_parallel import gather_from_sequence_parallel_region
from megatron.core.transformer.enums import ModelType
from megatron.core.transformer.moe.moe_utils import MoEAuxLossAutoScaler
from torch import Tensor, nn

from ernie5.model.attention_mask import AttentionMask, Where
from ernie5.model.elastic import Elastic, SubModel
from ernie5.model.unified_transformer import Hidden, UnifiedTransformer
from ernie5.objectives.next_group import Losses
from ernie5.parallel.context import GatheredKeys, Share
from ernie5.parallel.engine import LossFunction, MicroBatch
from ernie5.parallel.megatron.groups import Groups
from ernie5.parallel.megatron.sequence import scattered, whole
from ernie5.sequence import PackedSequence


class Chunk(nn.Module):
    """`model`: a stage, or the whole model, which is first and last. `sequence`: tensor ranks share the positions of the stream."""

    model_type = ModelType.encoder_or_decoder

    def __init__(self, model: UnifiedTransformer, groups: Groups, sequence: bool) -> None:
        super().__init__()
        self.model, self.tensor, self.context, self.sequence = model, groups.tensor, groups.context, sequence
        self.is_last = len(model.layers) - 1 in model.here
        self.received: Tensor | None = None

    def set_input_tensor(self, tensors: list[Tensor | None]) -> None:
        """The schedule offers what the stage before sent; nothing to the first."""
        (self.received,) = tensors

    def forward(self, loss_function: LossFunction, share: Share) -> tuple[Tensor, Losses]:
        x = self.arrived(share.micro_batch)

        def run(packed: PackedSequence, submodel: Elastic) -> Hidden:
            nonlocal x
            x, hidden = self.model.run(packed, self.mask(packed, share.keys), submodel, x)
            return hidden

        losses = loss_function(run, share.micro_batch)
        if self.is_last:
            return losses.total, losses
        assert x is not None
        if self.sequence:
            x = scattered(x, share.micro_batch.packed.kind, self.tensor)
        return MoEAuxLossAutoScaler.apply(x.flatten(0, 1).unsqueeze(1), losses.total), losses

    def arrived(self, micro_batch: MicroBatch) -> Tensor | None:
        """What was received as `B S D` or, under sequence parallelism, `1 t D`; whole where samples may pass by a layer."""
        if self.received is None:
            return None
        kind = micro_batch.packed.kind
        if not self.sequence:
            return self.received.view(*kind.shape, -1)
        ours = self.received.transpose(0, 1)
        return ours if isinstance(micro_batch.submodel, SubModel) else whole(ours, kind, self.tensor)

    def mask(self, packed: PackedSequence, keys: Where) -> AttentionMask:
        mask = self.model.mask(Where.of(packed), keys)
        if self.context.size == 1:
            return mask
        return GatheredKeys(mask, lambda x: gather_from_sequence_parallel_region(x, group=self.context.group))

    def whole_name(self, name: str) -> str:
        """The name on one process of a parameter or buffer of this chunk."""
        return name.removeprefix("model.")
