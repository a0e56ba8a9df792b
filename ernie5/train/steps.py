"""How long a run is, how big its steps are, and how both change over stages.

Report: §3.2 (8K, then 32K and 128K; batch ramp), §2.2.1 (bits are switched on while the backbone trains). Ours: stages are a list of
changes, each from a step on.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Literal

import torch

from ernie5.data_pipelines.loader import BatchShape
from ernie5.objectives.modality_weights import Weights
from ernie5.train.optimizer import OptimizerConfig
from ernie5.train.schedule import ScheduleConfig, rows_at


@dataclass(frozen=True)
class StageConfig:
    """From step `from_step` (1-based) on: another packed length, number of rows, temperature of the mixture, more bits of a vision token
    (None = as before), or weights of sources by name.
    """

    from_step: int
    length: int | None = None
    rows: int | None = None
    bits: int | None = None
    weights: dict[str, float] = field(default_factory=dict)
    temperature: float | None = None


@dataclass(frozen=True)
class TrainConfig:
    """A global step is `rows` x `length` positions, cut into micro-batches of `micro_rows` rows per process (0 = all at once).

    `bits`: how many bits of a vision token are on at the beginning, the first of the tokenizer's; None = all of them.
    `watchdog_s`: a job in which no step (or save) ends for so long shows its stacks and ends; 0 = it may wait for ever.
    """

    steps: int = 1000
    rows: int = 4
    length: int = 256
    micro_rows: int = 0
    ramp_from_rows: int = 0
    ramp_steps: int = 0
    bits: int | None = None
    stages: tuple[StageConfig, ...] = ()
    schedule: ScheduleConfig = ScheduleConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    loss_weights: Weights = Weights()
    modality_weighting: Literal["posterior", "off"] = "off"
    objective: str = "ernie5.objectives.next_group:NextGroupLoss"
    balance_speed: float = 1e-3
    checkpoint_every: int = 500
    keep_last: int = 2
    async_checkpoint: bool = True                     # written beside the steps that follow, from a copy of the state in host memory
    evaluate_every: int = 0
    precision: Literal["auto", "fp32", "bf16", "fp8"] = "auto"   # fp8 is refused by name
    device: str = "auto"
    threads: int = 0
    deterministic: bool = True
    prefetch: Literal["auto", "on", "off"] = "auto"   # prepare the next batch beside this step; auto: where a core is free for it
    profile_steps: tuple[int, ...] = field(default=())
    watchdog_s: float = 1800.0

    def check(self) -> None:
        self.schedule.check()
        if self.precision == "fp8":
            raise ValueError("train.precision = fp8 is nothing that any engine here can do yet; use auto, bf16 or fp32")
        for key in ("steps", "rows", "length", "checkpoint_every", "keep_last"):
            if getattr(self, key) < 1:
                raise ValueError(f"train.{key} = {getattr(self, key)} must be at least 1")
        if not 0 <= self.watchdog_s < float("inf"):
            raise ValueError(f"train.watchdog_s = {self.watchdog_s} is a number of seconds; use 0 for no watchdog, or 1800")
        starts = [s.from_step for s in self.stages]
        if starts != sorted(starts):
            raise ValueError(f"train.stages begin at steps {starts}; write them in rising order")
        self._check_bits()

    def _check_bits(self) -> None:
        before, where = self.bits, "train.bits"
        if before is not None and before < 1:
            raise ValueError(f"train.bits = {before} must be at least 1; use null for all bits of the vision tokenizer")
        for i, stage in enumerate(self.stages):
            if stage.bits is None:
                continue
            if before is None:
                raise ValueError(f"train.stages[{i}].bits = {stage.bits} switches bits on, but train.bits = null begins with all of them; "
                                 "set train.bits to the number at the beginning")
            if stage.bits <= before:
                raise ValueError(f"train.stages[{i}].bits = {stage.bits} must be more than {where} = {before}: bits are only switched on; "
                                 "use a larger number, or leave it out")
            before, where = stage.bits, f"train.stages[{i}].bits"

    def bits_at(self, step: int) -> int | None:
        """How many bits of a vision token are on in a step (1-based); None = all that the tokenizer has."""
        return max((s.bits for s in self.stages if s.bits is not None and step >= s.from_step), default=self.bits)

    @property
    def prepares_ahead(self) -> bool:
        """On two cores and two threads a batch made beside the step costs more than it hides (measured)."""
        return self.prefetch == "on" or (self.prefetch == "auto" and (os.cpu_count() or 1) > torch.get_num_threads())


def shape_of_step(config: TrainConfig, step: int, world_size: int, slots: int = 1) -> BatchShape:
    """Global rows, packed length, rows of a micro-batch, changed weights and temperature of sources, bits; `slots` of the global batch."""
    rows, length = config.rows, config.length
    weights: dict[str, float] = {}
    temperature: float | None = None
    for stage in config.stages:
        if step >= stage.from_step:
            rows, length, weights = stage.rows or rows, stage.length or length, weights | stage.weights
            temperature = stage.temperature or temperature
    parts = world_size * slots
    micro = config.micro_rows or rows // parts
    rows = rows_at(step, rows, config.ramp_from_rows, config.ramp_steps, unit=parts * min(micro, rows // parts))
    return BatchShape(rows, length, min(micro, rows // parts), tuple(weights.items()), slots, temperature,
                      config.bits_at(step))
