"""Parameters that a rank holds, and the bytes of weights, gradients and moments: counted on the model itself, built on the meta device.

    bytes = 4 weights + 4 gradients + 8 moments per parameter, each divided by the ranks that share it (zero 3, 2, 1)

Every engine keeps weights and moments in float32, and ranks with the same weights are data and context ranks. Experts are
shared out over expert ranks first; what is left of the ranks of a stage holds the same ones. Ours: the split is model/sharding.py's.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass

from torch import nn

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.sharding import Split, split_of
from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.placement import Stage

LAYER = re.compile(r"layers\.(\d+)\.")
LEVEL = re.compile(r"(?:heads\.audio(?:_norms)?|codec\.tables)\.(\d+)\.")


@dataclass(frozen=True)
class Held:
    """Parameters of one rank before ZeRO shares them: `dense` and `expert`; `largest`: of its largest layer."""

    dense: int
    expert: int
    largest: int

    @property
    def all(self) -> int:
        return self.dense + self.expert


@dataclass(frozen=True)
class StateBytes:
    """What a rank keeps from step to step."""

    weights: float
    gradients: float
    optimizer: float

    @property
    def all(self) -> float:
        return self.weights + self.gradients + self.optimizer


class ParameterTable:
    """Sizes of a whole model by place and split, counted once; `held` cuts them for any plan. `active`: what one token uses."""

    def __init__(self, model: nn.Module, config: ModelConfig, vocabulary: Vocabulary) -> None:
        self.config, self.num_levels = config, vocabulary.num_codebooks
        self.first_level = config.num_layers - self.num_levels
        self.sizes: Counter[tuple[int | str, Split]] = Counter()
        for name, parameter in model.named_parameters():
            self.sizes[self._place(name), split_of(name)] += parameter.numel()
        self.total = self.sizes.total()
        experts = sum(size for (_, split), size in self.sizes.items() if split == "expert")
        self.active = round(self.total - experts * (1 - config.top_k / config.num_experts))
        self.buffer_bytes = sum(b.numel() * b.element_size() for b in model.buffers())

    def held(self, plan: ParallelPlan, stage: Stage) -> Held:
        """What one rank of a stage holds."""
        ranks = {"column": plan.tensor, "row": plan.tensor, "vocab": plan.tensor, "expert": plan.expert, "replicate": 1}
        here: Counter[tuple[int | str, bool]] = Counter()
        for (place, split), size in self.sizes.items():
            if self._is_on(place, stage):
                here[place, split == "expert"] += size // ranks[split]
        layers = Counter({layer: here[layer, False] + here[layer, True] for layer in stage.layers})
        dense = sum(size for (_, expert), size in here.items() if not expert)
        return Held(dense, here.total() - dense, max(layers.values(), default=0))

    def levels_on(self, stage: Stage) -> int:
        """Audio codes that leave a stage."""
        if self.config.codec == "parallel":
            return self.num_levels if stage.last else 0
        return sum(layer >= self.first_level for layer in stage.layers)

    def _place(self, name: str) -> int | str:
        """The layer whose stage holds it, or which end of the model."""
        if match := LAYER.match(name):
            return int(match[1])
        if (match := LEVEL.match(name)) and self.config.codec == "depthwise":
            return f"after {self.first_level + int(match[1])}"
        if name == "embeddings.text.weight":
            return "both" if self.config.multi_token else "first"  # the multi-token module reads it too
        return "first" if name.startswith("embeddings.") else "last"

    def _is_on(self, place: int | str, stage: Stage) -> bool:
        match place:
            case int():
                return place in stage.layers
            case "first":
                return stage.first
            case "last":
                return stage.last
            case "both":
                return stage.first or stage.last
            case _:
                return int(place.removeprefix("after ")) in stage.layers


def state_bytes(held: Held, plan: ParallelPlan, world_size: int, passes: int) -> StateBytes:
    """Bytes on the device at the fullest moment of a step of so many passes; moments in host memory count nothing.

    The torch engine exchanges gradients after the last pass, so that those of earlier ones stay whole; under zero 2 it also keeps gathered
    weights from the first pass on.
    """
    dense, expert = plan.data_size(world_size) * plan.context, plan.expert_data_size(world_size)
    slices = held.dense / dense + held.expert / expert
    torch_zero = plan.engine == "torch" and plan.zero > 0
    weights = slices if plan.zero == 3 else slices + held.all if torch_zero else held.all
    gradients = slices if plan.zero >= 2 and not (torch_zero and passes > 1) else held.all
    moments = 0.0 if "optimizer" in plan.memory.offload else slices if plan.zero else held.all
    return StateBytes(4.0 * weights, 4.0 * gradients, 8.0 * moments)
