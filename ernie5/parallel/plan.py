"""How a run is spread over processes: the `parallel:` block of a recipe, checked before anything is built.

    world size = data * tensor * context * pipeline;   expert parallel ranks are data, tensor and context ranks (they share the experts)

Ours: the names; what each engine can do stands in plan_rules.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from ernie5.parallel.memory import MemoryConfig

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

    def check(self, world_size: int, rows: int) -> None:
        """Raise ValueError for what cannot run: names key, value, rule and way out."""
        self.memory.check()
        if self.engine != "torch":
            raise ValueError(f"parallel.engine = {self.engine} is not available in this version; use parallel.engine = torch")
        for key in ("tensor", "expert", "expert_tensor", "pipeline", "virtual_pipeline", "context"):
            if getattr(self, key) != 1:
                raise ValueError(f"parallel.{key} = {getattr(self, key)} needs an engine that is not here yet; use parallel.{key} = 1")
        if self.zero:
            raise ValueError(f"parallel.zero = {self.zero} needs an engine that is not here yet; use parallel.zero = 0")
        if rows % world_size:
            good = [n for n in range(1, rows + 1) if rows % n == 0]
            raise ValueError(f"train.rows = {rows} must be a multiple of the {world_size} processes; start {good} of them or change it")
