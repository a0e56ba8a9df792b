"""Learning rate and batch size over the steps.

    wsd:     linear warm-up, constant, then linear decay over the last `decay` share of the run
    cosine:  linear warm-up, then half a cosine from lr to lr_end
    ramp:    rows of the global batch grow linearly from `ramp_from_rows` over `ramp_steps`, in units of `ramp_unit`

Report: §3.2 (WSD in the 8K stage, cosine in mid-training, batch 14 M -> 56 M tokens ramped early).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ScheduleConfig:
    """`lr_end` is the rate after the last step, as a share of `lr`; `decay` the share of all steps that WSD decays over."""

    kind: Literal["wsd", "cosine"] = "wsd"
    lr: float = 3e-3
    warmup_steps: int = 50
    decay: float = 0.3
    lr_end: float = 0.02

    def check(self) -> None:
        if not 0 <= self.decay <= 1:
            raise ValueError(f"train.schedule.decay = {self.decay} is a share of the run; use a number between 0 and 1")


def learning_rate(config: ScheduleConfig, step: int, steps: int) -> float:
    """The rate of step `step` (1-based) of `steps`."""
    warm = min(1.0, step / max(1, config.warmup_steps))
    done = (step - 1) / max(1, steps)
    match config.kind:
        case "wsd":
            shape = 1.0 if done < 1 - config.decay else (1 - done) / config.decay
            shape = max(shape, config.lr_end)
        case "cosine":
            shape = config.lr_end + (1 - config.lr_end) * (1 + math.cos(math.pi * done)) / 2
    return config.lr * warm * shape


def rows_at(step: int, rows: int, ramp_from_rows: int, ramp_steps: int, unit: int) -> int:
    """Rows of the global batch at a step (1-based): a multiple of `unit`, at least one unit."""
    if ramp_steps <= 0 or step > ramp_steps or ramp_from_rows >= rows:
        return rows
    grown = ramp_from_rows + (rows - ramp_from_rows) * (step - 1) / ramp_steps
    return max(unit, int(grown // unit) * unit)
