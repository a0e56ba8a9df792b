"""The engine that a plan names, over a model that was built whole. Engines are imported when asked for: Megatron's takes seconds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.engine import Engine
from ernie5.parallel.levers import apply_levers, check_optimizer_offload
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.world import World

MakeOptimizer = Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class StepConfig:
    """`clip`: largest gradient norm of a step. `bf16`: products in bf16, weights and moments fp32. `elastic`: layers may be left out."""

    clip: float = 1.0
    bf16: bool = False
    elastic: bool = False


def build_engine(
    plan: ParallelPlan, model: UnifiedTransformer, make_optimizer: MakeOptimizer, world: World, config: StepConfig = StepConfig()  # noqa: B008
) -> Engine:
    """`model` has its initial weights, the same on every rank, and is on `world.device`; the engine takes from it what it needs.
    `make_optimizer(part)` makes the optimizer of what this process holds.
    """
    check_optimizer_offload(plan, config.elastic)
    if plan.engine != "megatron":  # which exchanges layers first
        apply_levers(model, plan.memory)
    match plan.engine:
        case "torch":
            from ernie5.parallel.torch_engine import TorchEngine

            return TorchEngine(model, make_optimizer, world, config.clip, config.bf16, config.elastic, plan)
        case "deepspeed":
            from ernie5.parallel.deepspeed.engine import DeepSpeedEngine

            return DeepSpeedEngine(model, make_optimizer, world, config, plan)
        case "megatron":
            from ernie5.parallel.megatron.build import build

            return build(plan, model, make_optimizer, world, config.clip, config.bf16)
