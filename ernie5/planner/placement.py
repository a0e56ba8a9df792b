"""Which layers and which ends of the model a pipeline rank holds, and how a pass is cut over the ranks of one stage.

Layers are dealt out in pieces, `virtual_pipeline` of them per rank, in turns; the ends live on the first and the last stage, a codec head
on the stage of its layer. A pass is cut over tensor ranks (heads; positions for the experts) and context ranks (positions). Ours.
Letters: T positions of a pass on one rank.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.parallel.plan import ParallelPlan


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


def stages_of(plan: ParallelPlan, num_layers: int, micro_batches: int) -> list[Stage]:
    """All pipeline ranks."""
    ranks, virtual = plan.pipeline, plan.virtual_pipeline
    pieces = _deal(num_layers, ranks * virtual)
    return [Stage(rank, tuple(layer for piece in pieces[rank::ranks] for layer in piece), rank == 0, rank == ranks - 1,
                  passes_in_flight(rank, ranks, virtual, micro_batches)) for rank in range(ranks)]


def passes_in_flight(rank: int, ranks: int, virtual: int, micro_batches: int) -> float:
    """1F1B keeps as many micro-batches as there are stages from here on; in turns, it warms up over the pieces (Megatron's schedule)."""
    if virtual == 1:
        return min(micro_batches, ranks - rank)
    warm_up = 2 * (ranks - rank - 1) + (virtual - 1) * ranks + 1
    return min(micro_batches * virtual, warm_up) / virtual


def _deal(num_layers: int, pieces: int) -> list[range]:
    """Equal shares in order; the first pieces take what is left over."""
    share, more = divmod(num_layers, pieces)
    ends = [share * (i + 1) + min(i + 1, more) for i in range(pieces)]
    return [range(start, end) for start, end in zip([0, *ends[:-1]], ends, strict=True)]


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
