"""What every engine promises: run micro-batches, take one optimizer step, add up over ranks, hand out and take back its state.

The loss function returns this micro-batch's share of the step's loss (sums over global counts); an engine undoes whatever scaling its own
data parallelism applies, so that the gradient is the exact sum over ranks and micro-batches (decision 24).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ernie5.model.elastic import FULL, Elastic, Touched
from ernie5.objectives.next_group import Losses
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


LossFunction = Callable[[nn.Module, MicroBatch], Losses]


class Engine(Protocol):
    """Runs one model under one plan."""

    def forward_backward(self, micro_batches: Sequence[MicroBatch], loss_function: LossFunction) -> Tensor:
        """Accumulate gradients; return the step's (total, text, multi_token, vision, audio) losses, summed over all ranks."""

    def optimizer_step(self, lr: float, touched: Touched | None = None) -> StepResult:
        """Clip, agree, step, forget gradients. What the step has not `touched` keeps its weights and moments; None = all is touched."""

    def sum_over_data(self, x: Tensor) -> Tensor:
        """Sum over the ranks that hold different tokens."""

    def state_dict(self) -> dict[str, Tensor]:
        """Weights and optimizer state by name (`model.…`, `optimizer.…`)."""

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Restore in place; a missing or unexpected name is an error."""
