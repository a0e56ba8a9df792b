"""Dead and overloaded experts, told while training: counts in metrics.jsonl, and a warning once an expert stays so.

    share_le = load_le / sum_e' load_le'       dead: share < 1 % of the even share 1/E       overloaded: share > limit * 1/E

limit = 4, or three quarters of the way from even to the most that is possible (E/K times even) where that is less. The load is the
decayed sum of some hundred steps that a checkpoint holds, so the counts are the same after a resume; who was warned of is forgotten then.
An expert that sub-models leave out now and then is not dead: the other steps of the hundred count.
Ours: all of it. Letters: L layers (the multi-token layer may be one more), R kinds, E experts, K top-k.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field

import torch
from torch import Tensor

log = logging.getLogger(__name__)

DEAD, OVERLOADED = 0.01, 4.0   # times the even share
RECOVERED = 2.0                # a dead expert must rise to twice the limit, an overloaded one halve its excess, before it is told again
FILL_STEPS = 100               # the decayed sum speaks of too few steps before
PATIENCE_STEPS = 20            # so long in a row before it is told
MAX_LINES = 3                  # more new ones than this in one step share a line


def overload_limit(num_experts: int, top_k: int) -> float:
    """How many times the even share is too much."""
    return min(OVERLOADED, 1.0 + 0.75 * (num_experts / top_k - 1.0))


def times_even(router_load: Tensor) -> Tensor:
    """Load `L R E` -> share of every expert over the even share `L E`, float64; 1 in layers where nothing was routed yet."""
    load = router_load.to(torch.float64).sum(dim=1)
    total = load.sum(dim=-1, keepdim=True)
    return torch.where(total > 0, load * load.shape[-1] / total, 1.0)


@dataclass
class ExpertHealth:
    """`num_layers`: layers of the backbone; a row of the load beyond them is the multi-token layer. `top_k`: experts per token."""

    num_layers: int
    top_k: int
    watched: dict[str, "Watch"] = field(init=False)

    def __post_init__(self) -> None:
        self.watched = {"dead": Watch(), "overloaded": Watch()}

    def observe(self, step: int, router_load: Tensor) -> dict[str, int]:
        """`router/dead` and `router/overloaded`, over all layers, from the load `L R E` after `step`. Warns of what has just settled."""
        share, limit = times_even(router_load), overload_limit(router_load.shape[-1], self.top_k)
        dead, overloaded = share < DEAD, share > limit * (1 + 1e-6)  # rounding must not overload an expert that is exactly full
        if step > FILL_STEPS:
            self._tell(self.watched["dead"].settled(dead, share >= RECOVERED * DEAD), share,
                       "dead", f"under {DEAD:.0%} of an even share")
            self._tell(self.watched["overloaded"].settled(overloaded, share <= 1 + (limit - 1) / RECOVERED), share,
                       "overloaded", f"over {limit:g} times an even share")
        return {"router/dead": int(dead.sum()), "router/overloaded": int(overloaded.sum())}

    def _tell(self, found: Tensor, share: Tensor, what: str, told: str) -> None:
        places = found.nonzero().tolist()
        if len(places) > MAX_LINES:
            counts = found.sum(dim=-1).tolist()
            where = ", ".join(f"{self._layer(layer)}: {count}" for layer, count in enumerate(counts) if count)
            log.warning("%d experts have become %s (%s for %d steps): %s", len(places), what, told, PATIENCE_STEPS, where)
            return
        for layer, expert in places:
            log.warning("%s, expert %d has become %s: %.2f times an even share (%s for %d steps)", self._layer(layer), expert + 1, what,
                        share[layer, expert], told, PATIENCE_STEPS)

    def _layer(self, index: int) -> str:
        return f"layer {index + 1}" if index < self.num_layers else "multi-token layer"


@dataclass
class Watch:
    """For how many steps in a row something holds, and what was told already (`L E` each)."""

    steps: Tensor | None = None
    told: Tensor | None = None

    def settled(self, holds: Tensor, over: Tensor) -> Tensor:
        """bool `L E`: what has held for `PATIENCE_STEPS` and was not told since it was last `over`."""
        if self.steps is None or self.told is None:
            self.steps, self.told = torch.zeros_like(holds, dtype=torch.int64), torch.zeros_like(holds)
        self.steps = torch.where(holds, self.steps + 1, 0)
        new = (self.steps >= PATIENCE_STEPS) & ~self.told
        self.told = (self.told | new) & ~over
        return new
