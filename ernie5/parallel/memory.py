"""What a run may give up time for to save memory; none of it changes what is learned.

Report: §5.1 (recompute, offload, sub-batches of experts under unbalanced routing). Ours: the names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class MemoryConfig:
    """`recompute`: full = keep only the inputs of layers, selective = run the experts again. `offload`: keep saved `activations` or the
    `optimizer` state in host memory. `loss_chunk`: target positions per piece of the heads' logits (0 = all at once). `expert_rows`: rows
    per sub-batch of one rank's experts (0 = all at once), so that unbalanced routing cannot run out of memory.
    """

    recompute: Literal["none", "selective", "full"] = "none"
    offload: tuple[Literal["activations", "optimizer"], ...] = ()
    loss_chunk: int = 0
    expert_rows: int = 0

    def check(self) -> None:
        for key in ("loss_chunk", "expert_rows"):
            if getattr(self, key) < 0:
                raise ValueError(f"parallel.memory.{key} = {getattr(self, key)} is a number of positions; use 0 (all at once) or more")
