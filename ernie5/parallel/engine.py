"""What every engine promises: run micro-batches, take one optimizer step, add up over ranks, hand out and take back its state.

The loss function returns this micro-batch's share of the step's loss (sums over global counts); an engine undoes whatever scaling its own
data parallelism applies, so that the gradient is the exact sum over ranks and micro-batches (decision 19).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from ernie5.model.elastic import FULL, Elastic, Touched
from ernie5.model.unified_transformer import Hidden, UnifiedTransformer
from ernie5.objectives.next_group import Losses
from ernie5.parallel.shards import Reader, Shard
from ernie5.parallel.world import World
from ernie5.sequence import PackedSequence


@dataclass(frozen=True)
class MicroBatch:
    """One packed batch and the sub-model (or one per sample) that runs it."""

    packed: PackedSequence
    submodel: Elastic = FULL


@dataclass(frozen=True)
class StepResult:
    """`grad_norm` before clipping; `skipped` when it was not finite (agreed by all ranks, no weight has moved)."""

    grad_norm: float
    skipped: bool


LossFunction = Callable[[Callable[..., Hidden], MicroBatch], Losses]  # of the model, or of what runs a stage of it


class Engine(Protocol):
    """Runs one model under one plan. `model` is what this process holds of it; `data_rank` of `data_size`: whose rows of the global batch
    it takes. Processes of one data rank (tensor, pipeline, context parallel) are given the same rows. `whole_model`: `model` on
    rank 0 is all of it and can be evaluated as it is.
    """

    world: World
    model: UnifiedTransformer
    data_rank: int
    data_size: int
    whole_model: bool

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        """Accumulate gradients; return the step's (total, text, multi_token, vision, audio) losses, summed over all ranks."""

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        """Clip, agree, step, forget gradients. What the step has not `touched` keeps its weights and moments; None = all is touched."""

    def sum_over_data(self, x: Tensor) -> Tensor:
        """Sum over the data ranks: of what is known of rows (target counts). Each rank of a plan counts once, whatever it holds."""

    def sum_over_world(self, x: Tensor) -> Tensor:
        """Sum over all processes: of what routers did, because every pair of (position, layer) runs on exactly one of them."""

    def shards(self) -> Iterator[Shard]:
        """This process's share of the state; over all processes every element exactly once. Collective: all must call it."""

    def load(self, reader: Reader) -> None:
        """Restore weights and moments in place, whatever plan they were saved under; ValueError for a missing weight or another shape."""
