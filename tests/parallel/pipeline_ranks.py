"""What ranks do in the tests of pipelines, besides training (parity.py) and what megatron_ranks.py has."""

from __future__ import annotations

from functools import partial

import torch
from megatron_ranks import one_step
from parity import MODEL, make_engine, plan_of, run_steps
from tiny_world import batch, small_model

from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.build import StepConfig, build_engine
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective


def order_of_passes(world: World, settings: dict) -> tuple[str, str, int]:
    """The schedule at work, forward and backward passes of one step in their order (`F` `B`), and messages between ranks."""
    from megatron.core.pipeline_parallel import schedules
    from megatron.core.pipeline_parallel.p2p_communication import P2PCommunicator

    engine = make_engine(world, {"engine": "megatron", **settings}, False)
    passes, messages = [], []
    plain = schedules.forward_step, schedules.backward_step, P2PCommunicator._communicate
    schedules.forward_step = lambda *a, **k: (passes.append("F"), plain[0](*a, **k))[1]
    schedules.backward_step = lambda *a, **k: (passes.append("B"), plain[1](*a, **k))[1]
    P2PCommunicator._communicate = lambda self, **k: (messages.append(1), plain[2](self, **k))[1]
    try:
        run_steps(engine, range(1), False)
    finally:
        schedules.forward_step, schedules.backward_step, P2PCommunicator._communicate = plain
    return engine.schedule.__name__, "".join(passes), len(messages)


def what_is_held(world: World, settings: dict) -> tuple[set[str], set[str]]:
    """Names of the parameters of this process, and of those that the model object holds that was given to the engine."""
    model = small_model(MODEL)
    engine = build_engine(plan_of({"engine": "megatron", **settings}), model, partial(make_optimizer, config=OptimizerConfig()), world)
    assert engine.model is model and isinstance(model, UnifiedTransformer)
    chunks = {name.removeprefix("module.model.") for chunk in engine.chunks for name, _ in chunk.named_parameters()}
    return chunks, {name for name, _ in model.named_parameters()}


def text_tables(world: World, settings: dict, steps: int) -> torch.Tensor | None:
    """Our copy of the text table after some steps."""
    engine = make_engine(world, {"engine": "megatron", **settings}, True)
    run_steps(engine, range(steps), True)
    tables = [p for name, p in engine.model.named_parameters() if name == "embeddings.text.weight"]
    return tables[0].detach().clone() if tables else None


def refused_step(world: World, settings: dict, lengths: list[int]) -> str:
    """The words of the refusal to run micro-batches of these lengths."""
    engine = make_engine(world, {"engine": "megatron", **settings}, False)
    packed = [batch([["text"]], length=length) for length in lengths]
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(sum((TargetCounts.of(p) for p in packed), start=TargetCounts()), Weights())
    try:
        engine.forward_backward([MicroBatch(p) for p in packed], objective)
    except ValueError as error:
        return str(error)
    return ""


def in_bf16(world: World, settings: dict) -> torch.Tensor:
    """Losses of a step with products in bf16; gradients and weights stay float32."""
    plan = plan_of({"engine": "megatron", **settings})
    engine = build_engine(plan, small_model(MODEL), partial(make_optimizer, config=OptimizerConfig()), world, StepConfig(bf16=True))
    losses = one_step(engine).losses
    assert all(p.main_grad.dtype == p.dtype == torch.float32 for p in engine.model.parameters())
    return losses
