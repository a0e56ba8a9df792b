"""The moving parts of a run in one place, and their exact state.

What a checkpoint holds: weights, moments and balance biases (tensors), router load so far, the data position, modality means, tokens seen.
Random streams need no state: they are functions of seed and counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ernie5.data_pipelines.loader import Loader, LoaderState
from ernie5.model.elastic_space import ElasticSpace
from ernie5.model.heads import Heads
from ernie5.model.router_balance import RouterBalance
from ernie5.model.unified_transformer import Hidden, UnifiedTransformer
from ernie5.objectives.modality_weights import EqualWeights, PosteriorWeights, Weights
from ernie5.objectives.next_group import Losses, NextGroupLoss, TargetCounts
from ernie5.parallel.engine import Engine, MicroBatch
from ernie5.parallel.shards import Reader, Shard, WeightsOnly
from ernie5.sequence import Kind, PackedSequence
from ernie5.train.expert_health import ExpertHealth


@dataclass
class Training:
    """Everything that changes while training; `step` steps are done."""

    model: UnifiedTransformer
    engine: Engine
    loader: Loader
    balance: RouterBalance
    modality_weights: EqualWeights | PosteriorWeights
    objective: "Objective"
    elastic: ElasticSpace
    seed: int
    step: int = 0
    tokens: int = 0
    router_load: Tensor = field(init=False)  # layers R E, decayed sum of positions
    health: ExpertHealth = field(init=False)

    def __post_init__(self) -> None:
        config = self.model.config
        self.health = ExpertHealth(config.num_layers, config.top_k)
        self.router_load = torch.zeros(config.num_moe_layers, len(Kind), config.num_experts)

    def shards(self) -> Iterator[Shard]:
        """This process's share of all tensors that a checkpoint holds."""
        yield from self.engine.shards()
        if self.engine.world.rank == 0:
            yield Shard.whole("router_load", self.router_load)

    def state(self) -> dict:
        return {
            "step": self.step, "tokens": self.tokens, "loader": self.loader.state.to_json(),
            "modality_weights": self.modality_weights.state(),
        }

    def restore(self, reader: Reader, state: dict) -> None:
        """Go on exactly where the checkpoint was written."""
        self.router_load.copy_(reader.read("router_load"))
        self.engine.load(reader)
        self.step, self.tokens = state["step"], state["tokens"]
        self.loader.restore(LoaderState.from_json(state["loader"]))
        self.modality_weights.load(state["modality_weights"])

    def load_weights(self, reader: Reader) -> None:
        """Start a new run from another run's weights only."""
        self.engine.load(WeightsOnly(reader))


LossOfHidden = Callable[[Hidden, Heads, PackedSequence, TargetCounts, Weights], Losses]


class Objective:
    """The loss function that an engine calls for every micro-batch; it also collects what the routers did in this step. `model`: what this
    process holds of it. On a stage of a pipeline `loss` sees what left that stage, so it must be a `NextGroupLoss` with its own call.
    """

    def __init__(self, loss: LossOfHidden, model: UnifiedTransformer) -> None:
        plain = isinstance(loss, NextGroupLoss) and type(loss).__call__ is NextGroupLoss.__call__
        if len(model.here) < model.config.num_layers and not plain:
            raise ValueError(f"train.objective = {type(loss).__name__} wants the hidden states of the whole model, of which each process "
                             "has some under parallel.pipeline > 1; use parallel.pipeline = 1, or the NextGroupLoss of this library")
        self.loss, self.model = loss, model
        self.counts, self.weights = TargetCounts(0.0, 0.0, 0.0, 0.0), Weights()
        self.passes: list[tuple[Tensor, Tensor, tuple[int, ...]]] = []  # load, even load, which layers they speak of

    def begin(self, counts: TargetCounts, weights: Weights) -> None:
        """Counts of the whole global step, and this step's weights."""
        self.counts, self.weights, self.passes = counts, weights, []

    def __call__(self, model: Callable[..., Hidden], micro_batch: MicroBatch) -> Losses:
        hidden = model(micro_batch.packed, micro_batch.submodel)
        self.passes.append((hidden.load, hidden.even, hidden.layers))
        return self.loss(hidden, self.model.heads, micro_batch.packed, self.counts, self.weights)

    def load(self, num_layers: int) -> Tensor:
        """What the routers of all passes did: `num_layers R E`; layers that did not run count nothing."""
        return by_layer([(load, layers) for load, _, layers in self.passes], num_layers)

    def even(self, num_layers: int) -> Tensor:
        """What they would have done had they spread their choices evenly: `num_layers E`."""
        return by_layer([(even, layers) for _, even, layers in self.passes], num_layers)


def by_layer(parts: list[tuple[Tensor, tuple[int, ...]]], num_layers: int) -> Tensor:
    """Add up counts `executed layers, …` of passes that ran different layers -> `num_layers, …` float64."""
    first, _ = parts[0]
    summed = torch.zeros(num_layers, *first.shape[1:], device=first.device, dtype=torch.float64)
    for part, layers in parts:
        summed.index_add_(0, torch.tensor(layers, dtype=torch.int64, device=first.device), part.to(torch.float64))
    return summed
