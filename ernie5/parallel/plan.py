"""How a run is spread over processes: the `parallel:` block of a recipe, checked before anything is built.

    world size = data * tensor * context * pipeline;   expert parallel ranks are data, tensor and context ranks (they share the experts)

Ours: the names; what each engine can do, and what would train wrongly, stands in plan_rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import gcd
from typing import Literal

from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.plan_rules import check_plan
from ernie5.parallel.workload import Workload

Value = bool | int | float | str | None
Inner = Value | tuple[Value, ...]


@dataclass(frozen=True)
class ParallelPlan:
    """Degrees of parallelism; `data` = -1 is what is left of the world size. `sequence`: tensor ranks share the positions between their
    products. `zero`: what data ranks share: 0 nothing, 1 optimizer state, 2 and gradients, 3 and weights. `virtual_pipeline`: pieces of the
    model per pipeline rank. `deepspeed`: more keys of its configuration, as they are.
    """

    engine: Literal["torch", "deepspeed", "megatron"] = "torch"
    data: int = -1
    zero: int = 0
    tensor: int = 1
    sequence: bool = False
    expert: int = 1
    expert_tensor: int = 1
    pipeline: int = 1
    virtual_pipeline: int = 1
    context: int = 1
    memory: MemoryConfig = MemoryConfig()
    deepspeed: dict[str, Inner | dict[str, Inner | dict[str, Inner]]] = field(default_factory=dict)

    def data_size(self, world_size: int) -> int:
        """Ranks that take different rows: what the other axes leave of the world."""
        return max(1, world_size // (self.tensor * self.context * self.pipeline))

    def stage_size(self, world_size: int) -> int:
        """Ranks that hold the same layers; expert parallel ranks are found among them."""
        return self.data_size(world_size) * self.tensor * self.context

    def expert_data_size(self, world_size: int) -> int:
        """Ranks that hold the same experts."""
        return self.stage_size(world_size) // self.expert

    def smallest_world(self) -> int:
        """The fewest processes that this plan can be."""
        shared = self.tensor * self.context
        data = self.data if self.data > 0 else self.expert // gcd(self.expert, shared)
        return data * shared * self.pipeline

    def check(self, world_size: int, workload: Workload) -> None:
        """ValueError with the first reason why this plan cannot carry the workload on so many processes."""
        check_plan(self, world_size, workload)
