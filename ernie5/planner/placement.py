"""Which layers and which ends of the model a pipeline rank holds, and how a pass is cut over the ranks of one stage.

Layers are dealt out in pieces, `virtual_pipeline` of them per rank, in turns, so that the heaviest piece is as light as it can be: the last
one also has the text head and the multi-token module. Embeddings live on the first stage, a codec head on the stage of its layer. A pass
is cut over tensor ranks (heads; positions for the experts) and context ranks (positions). Ours.
Letters: T positions of a pass on one rank.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.stages import partition, weight_of_last

cached_partition = lru_cache(maxsize=256)(partition)  # a search asks for the same ones again and again


@dataclass(frozen=True)
class Stage:
    """`layers`: their indices; `first` holds the embeddings, `last` the heads and the multi-token module. `passes`: micro-batches whose
    saved tensors it holds at once, as a share of a pass through all its layers.
    """

    index: int
    layers: tuple[int, ...]
    first: bool
    last: bool
    passes: float


def stages_of(plan: ParallelPlan, model: ModelConfig, vocabulary: Vocabulary, micro_batches: int) -> list[Stage]:
    """All pipeline ranks."""
    ranks, virtual = plan.pipeline, plan.virtual_pipeline
    pieces = cached_partition(model.num_layers, ranks * virtual, weight_of_last(model, vocabulary))
    return [Stage(rank, tuple(layer for piece in pieces[rank::ranks] for layer in piece), rank == 0, rank == ranks - 1,
                  passes_in_flight(rank, ranks, virtual, micro_batches)) for rank in range(ranks)]


def passes_in_flight(rank: int, ranks: int, virtual: int, micro_batches: int) -> float:
    """1F1B keeps as many micro-batches as there are stages from here on; in turns, it warms up over the pieces (Megatron's schedule)."""
    if virtual == 1:
        return min(micro_batches, ranks - rank)
    warm_up = 2 * (ranks - rank - 1) + (virtual - 1) * ranks + 1
    return min(micro_batches * virtual, warm_up) / virtual


def unlike(stages: list[Stage]) -> list[Stage]:
    """The first stage of every sort: with as many layers, the same ends, and so at least as many passes in flight as the others."""
    sorts: dict[tuple[int, bool, bool], Stage] = {}
    for stage in stages:
        sorts.setdefault((len(stage.layers), stage.first, stage.last), stage)
    return list(sorts.values())


@dataclass(frozen=True)
class Cut:
    """How much of a pass one rank of a stage does. `tensor`: ranks that share heads, text ids and the positions of the experts; `sequence`:
    norms and residuals too; `context`: ranks that share the positions of a row; `expert`: ranks that share the experts.
    """

    tensor: int = 1
    sequence: bool = False
    context: int = 1
    expert: int = 1

    @classmethod
    def of(cls, plan: ParallelPlan) -> "Cut":
        return cls(plan.tensor, plan.sequence, plan.context, plan.expert)

    @property
    def outside(self) -> int:
        """Ranks that share the positions between products."""
        return self.tensor if self.sequence else 1
