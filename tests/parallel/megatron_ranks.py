"""What ranks do in the tests of the Megatron engine, besides training (parity.py). Megatron itself is imported on the ranks alone."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import tiny_world
import torch
from parity import LENGTH, MODEL, ROWS, Trained, make_engine, run_steps
from tiny_world import batch, small_model

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import FULL, Elastic, SubModel, touched
from ernie5.model.elastic_samples import SubModels
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import Engine, MicroBatch
from ernie5.parallel.shards import Shard
from ernie5.parallel.world import World
from ernie5.train.training import Objective

SHALLOW, SPARSE = SubModel((0, 2, 3, 4, 5)), SubModel((0, 1, 3, 4, 5), top_k=1)
BY_SAMPLE = {"text_to_image": SHALLOW, "audio_to_text": SubModel((0, 2, 3, 4, 5), top_k=1), "mixed": SHALLOW, "text_to_video": SPARSE,
             "image_to_text": FULL, "text_to_audio": SPARSE, "text": SPARSE}  # layer 1 runs for the last two rows alone


def copied(engine: Engine) -> tuple[Shard, ...]:
    return tuple(replace(shard, data=shard.data.clone()) for shard in engine.shards())


def one_step(engine: Engine, by_sample: bool = False) -> Trained:
    """A step of micro-batches of two rows, with one sub-model per sample if asked."""
    packed = [batch([*ROWS[i : i + 2]], length=LENGTH, seed=i) for i in (0, 2)]
    share = len(packed) // engine.data_size
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(sum((TargetCounts.of(p) for p in packed), start=TargetCounts()), Weights(router=0.5))

    def submodel(i: int) -> Elastic:
        return SubModels.of(packed[i], BY_SAMPLE) if by_sample else FULL

    mine = range(engine.data_rank * share, (engine.data_rank + 1) * share)
    losses = engine.forward_backward([MicroBatch(packed[i], submodel(i)) for i in mine], objective)
    config = engine.model.config
    result = engine.optimizer_step(1e-3, touched(list(BY_SAMPLE.values()), config) if by_sample else None)
    load = engine.sum_over_world(objective.load(config.num_moe_layers))
    return Trained(losses[None], (result.grad_norm,), load, copied(engine))


def step_of(world: World, settings: dict, model: ModelConfig = MODEL, by_sample: bool = False) -> Trained:
    return one_step(make_engine(world, settings, by_sample, model), by_sample)


def step_with_ids(world: World, settings: dict, text_ids: int) -> Trained:
    """A step of a model with another number of text ids."""
    plain = tiny_world.VOCABULARY
    tiny_world.VOCABULARY = replace(plain, text=text_ids)
    try:
        return step_of(world, settings)
    finally:
        tiny_world.VOCABULARY = plain


def resumed(world: World, settings: dict) -> tuple[Trained, Trained]:
    """Three steps; then two more, and two more of another engine that has read the state."""
    engine = make_engine(world, settings, True)
    run_steps(engine, range(3), True)
    reader = gathered(world, engine)
    went_on = Trained(*run_steps(engine, range(3, 5), True), copied(engine))
    another = make_engine(world, settings, True)
    another.load(reader)
    return went_on, Trained(*run_steps(another, range(3, 5), True), copied(another))


def gathered(world: World, engine: Engine):
    """The state of all ranks, in memory on each."""
    import torch.distributed as dist

    from ernie5.parallel.shards import InMemory, assemble

    everyone: list = [None] * world.size
    dist.all_gather_object(everyone, copied(engine))
    return InMemory(assemble(shard for rank in everyone for shard in rank))


def losses_from(world: World, settings: dict, start: dict[str, torch.Tensor]) -> tuple[torch.Tensor, tuple[Shard, ...]]:
    """The losses of a batch from a state, and that state as it is handed out again."""
    from ernie5.parallel.shards import InMemory

    engine = make_engine(world, settings, False)
    engine.load(InMemory(start))
    before = copied(engine)
    return run_steps(engine, range(1), False)[0], before


def not_finite(world: World, settings: dict, bad_rank: int) -> tuple[bool, bool]:
    """One rank's loss is not a number: (whether the step was skipped, whether anything moved on this rank)."""
    engine = make_engine(world, settings, False)
    run_steps(engine, range(1), False)
    before = copied(engine)

    def loss(runner, micro_batch):
        hidden, packed = runner(micro_batch.packed, micro_batch.submodel), micro_batch.packed
        losses = NextGroupLoss()(hidden, engine.model.heads, packed, TargetCounts.of(packed), Weights())
        return replace(losses, total=losses.total * (torch.nan if world.rank == bad_rank else 1.0))

    engine.forward_backward([MicroBatch(batch([ROWS[1]], length=LENGTH))], loss)
    skipped = engine.optimizer_step(1e-2).skipped
    moved = [a.name for a, b in zip(before, copied(engine), strict=True) if not torch.equal(a.data, b.data)]
    return skipped, bool(moved)


def who_did_it(world: World) -> dict[str, bool]:
    """Which of Megatron's own classes are at work."""
    from megatron.core.distributed import DistributedDataParallel
    from megatron.core.optimizer import DistributedOptimizer
    from megatron.core.pipeline_parallel.schedules import forward_backward_no_pipelining
    from megatron.core.tensor_parallel import ColumnParallelLinear, RowParallelLinear, VocabParallelEmbedding
    from megatron.core.transformer.moe.token_dispatcher import MoEAlltoAllTokenDispatcher

    engine = make_engine(world, {"engine": "megatron", "tensor": 2, "sequence": True, "expert": 2, "zero": 1}, False)
    layer = engine.model.layers[1]
    dispatched: list[int] = []
    plain = MoEAlltoAllTokenDispatcher.token_dispatch
    MoEAlltoAllTokenDispatcher.token_dispatch = lambda self, rows, gates: (dispatched.append(len(rows)), plain(self, rows, gates))[1]
    try:
        run_steps(engine, range(1), False)
    finally:
        MoEAlltoAllTokenDispatcher.token_dispatch = plain
    return {
        "projections": all(isinstance(getattr(layer.attention, n), ColumnParallelLinear) for n in ("query", "key", "value")),
        "out": isinstance(layer.attention.out, RowParallelLinear),
        "table": isinstance(engine.model.embeddings.text, VocabParallelEmbedding),
        "head": isinstance(engine.model.heads.text, ColumnParallelLinear),
        "dispatcher": isinstance(layer.moe.dispatcher, MoEAlltoAllTokenDispatcher) and len(dispatched) == MODEL.num_moe_layers * len(ROWS),
        "gradients": isinstance(engine.chunks[0], DistributedDataParallel) and engine.chunks[0].ddp_config.use_distributed_optimizer,
        "optimizer": all(isinstance(stepper, DistributedOptimizer) for stepper in engine.steppers) and len(engine.steppers) == 2,
        "schedule": engine.schedule is forward_backward_no_pipelining,
        "half of the heads": layer.attention.query.weight.shape[0] == MODEL.dim // 2,
        "half of the experts": layer.moe.experts.up.shape[0] == MODEL.num_experts // 2,
    }


def all_logits(world: World) -> torch.Tensor:
    """Logits for people from a head that is split."""
    engine = make_engine(world, {"engine": "megatron", "tensor": 2}, False)
    return engine.model.heads.text(torch.randn(3, MODEL.dim, generator=torch.Generator().manual_seed(0))).detach()


def what_tensor_ranks_share(world: World) -> tuple[bool, dict[str, torch.Tensor]]:
    """Whether Megatron adds experts up as experts, and all weights that two tensor ranks both hold, after two steps.

    Trap: were experts marked like dense parameters, tensor ranks would not add up what each has seen of its positions.
    """
    from ernie5.model.sharding import split_of

    engine = make_engine(world, {"engine": "megatron", "tensor": 2, "sequence": True}, False)
    run_steps(engine, range(2), False)
    experts = {id(p) for name, p in engine.model.named_parameters() if split_of(name) == "expert"}
    marked = {id(p) for buffer in engine.chunks[0].expert_parallel_buffers for p in buffer.params} == experts
    return marked, {n: p.detach().clone() for n, p in engine.model.named_parameters() if split_of(n) in ("replicate", "expert")}


def after_each(world: World, settings: dict, steps: tuple[int, ...]) -> list[tuple[Shard, ...]]:
    """The state after each of these steps with sub-models."""
    engine = make_engine(world, settings, True)
    states = []
    for step in steps:
        run_steps(engine, range(step, step + 1), True)
        states.append(copied(engine))
    return states


def two_experts_alone(world: World, settings: dict) -> float:
    """The gradient norm of a step in which all rows go to the first two experts."""
    engine = make_engine(world, settings, True)
    two = SubModel(experts=((0, 1),) * MODEL.num_moe_layers)
    objective = Objective(NextGroupLoss(), engine.model)
    packed = [batch([row], length=LENGTH, seed=i) for i, row in enumerate(ROWS)]
    objective.begin(sum((TargetCounts.of(p) for p in packed), start=TargetCounts()), Weights())
    share = len(packed) // engine.data_size
    mine = packed[engine.data_rank * share : (engine.data_rank + 1) * share]
    engine.forward_backward([MicroBatch(p, two) for p in mine], objective)
    return engine.optimizer_step(1e-3, touched([two], MODEL)).grad_norm


def without_a_process_group(world: World) -> Trained:
    """One process that nobody launched."""
    import torch.distributed as dist

    dist.destroy_process_group()
    return step_of(world, {"engine": "megatron", "zero": 1})


def refused(world: World, settings: dict, changes: dict, start: dict[str, torch.Tensor] | None = None) -> str:
    """The words of the refusal to make an engine, or to read a state."""
    from ernie5.parallel.shards import InMemory

    try:
        engine = make_engine(world, {"engine": "megatron", **settings}, False, dataclasses.replace(MODEL, **changes))
        engine.load(InMemory(start or {}))
    except ValueError as error:
        return str(error)
    return ""


def in_bf16(world: World) -> tuple[torch.Tensor, float]:
    """Losses of a step with products in bf16, and the largest difference of a gradient's dtype from float32 (0 = all are)."""
    from functools import partial

    from parity import plan_of

    from ernie5.parallel.build import StepConfig, build_engine
    from ernie5.train.optimizer import OptimizerConfig, make_optimizer

    plan = plan_of({"engine": "megatron", "tensor": 2, "sequence": True, "expert": 2})
    engine = build_engine(plan, small_model(MODEL), partial(make_optimizer, config=OptimizerConfig()), world, StepConfig(bf16=True))
    done = one_step(engine)
    return done.losses, float(sum(p.main_grad.dtype != torch.float32 for p in engine.model.parameters() if p.requires_grad))


def without_tier(world: World, missing: str | None) -> str:
    """A step of everything with all patches but one; what Megatron says."""
    from contextlib import nullcontext

    from ernie5.parallel.megatron import compat

    tiers, types = compat.TIERS, compat.types
    compat.uninstall()
    compat.TIERS = tuple(tier for tier in tiers if tier.__name__ != missing)
    compat.types = nullcontext if missing == "types" else types
    try:
        run_steps(make_engine(world, {"engine": "megatron", "tensor": 2, "sequence": True, "expert": 2, "zero": 1}, False), range(1), False)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    finally:
        compat.uninstall()
        compat.TIERS, compat.types = tiers, types
    return ""


def patches_and_back(world: World, cuda: bool) -> tuple[int, int, bool, list[str]]:
    """How many attributes `install` replaces, how many when asked again, whether all are back after `uninstall`, and what the log says."""
    import logging

    from megatron.core.transformer.moe.token_dispatcher import MoEAlltoAllTokenDispatcher as Dispatcher

    from ernie5.parallel.megatron import compat

    compat.uninstall()
    places = (torch.cuda, compat.schedules, compat.optimizers, Dispatcher, torch.Tensor)
    before, said, available = [dict(vars(place)) for place in places], [], torch.cuda.is_available
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    compat.log.addHandler(handler)
    torch.cuda.is_available = lambda: cuda
    try:
        first, second = len(compat.install().replaced), len(compat.install().replaced)
        with compat.types():
            cpu_says = torch.zeros(1).type()
        compat.uninstall()
    finally:
        torch.cuda.is_available = available
        compat.log.removeHandler(handler)
    assert cpu_says == ("torch.FloatTensor" if cuda else "torch.cuda.FloatTensor")
    return first, second, before == [dict(vars(place)) for place in places], said
