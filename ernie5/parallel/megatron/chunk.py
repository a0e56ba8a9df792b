"""What Megatron's schedules run: one piece of the model and, in the last piece, its loss. Here the piece is the whole model.

    chunk(loss_function, micro_batch) -> Losses in the last piece, the stream `B S D` in others

A pipeline has other chunks with the same four members. Ours.
"""

from __future__ import annotations

from megatron.core.transformer.enums import ModelType
from torch import Tensor, nn

from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.next_group import Losses
from ernie5.parallel.engine import LossFunction, MicroBatch


class WholeChunk(nn.Module):
    """All layers and heads; nothing comes from a stage before."""

    model_type = ModelType.encoder_or_decoder

    def __init__(self, model: UnifiedTransformer) -> None:
        super().__init__()
        self.model = model

    def set_input_tensor(self, tensors: list[Tensor | None]) -> None:
        """The schedule offers what the stage before sent: nothing."""
        assert tensors == [None]

    def forward(self, loss_function: LossFunction, micro_batch: MicroBatch) -> Losses | Tensor:
        return loss_function(self.model, micro_batch)

    def whole_name(self, name: str) -> str:
        """The name on one process of a parameter or buffer of this chunk."""
        return name.removeprefix("model.")
