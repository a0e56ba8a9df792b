"""How a run is spread over processes: the `parallel:` block of a recipe, checked before anything is built.

This version runs the torch engine with data parallelism; every other degree must be 1. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ParallelPlan:
    """Degrees of parallelism. `data` is what is left of the world size."""

    engine: Literal["torch", "deepspeed", "megatron"] = "torch"
    tensor: int = 1
    expert: int = 1
    pipeline: int = 1
    context: int = 1
    zero: int = 0

    def check(self, world_size: int, rows: int) -> None:
        """Raise ValueError for what cannot run: names key, value, rule and way out."""
        if self.engine != "torch":
            raise ValueError(f"parallel.engine = {self.engine} is not available in this version; use parallel.engine = torch")
        for key in ("tensor", "expert", "pipeline", "context"):
            if getattr(self, key) != 1:
                raise ValueError(f"parallel.{key} = {getattr(self, key)} needs an engine that is not here yet; use parallel.{key} = 1")
        if self.zero:
            raise ValueError(f"parallel.zero = {self.zero} needs an engine that is not here yet; use parallel.zero = 0")
        if rows % world_size:
            good = [n for n in range(1, rows + 1) if rows % n == 0]
            raise ValueError(f"train.rows = {rows} must be a multiple of the {world_size} processes; start {good} of them or change it")
