"""Five steps of any engine under any plan on the same documents of four modalities, and what one process makes of them.

`train(world, plan, …)` runs on every rank (see rank_pool.py); `whole` puts together what all ranks hold afterwards. Multi-token and
next-codec prediction are on, and with `elastic` every step draws two sub-models: fewer layers, fewer experts, a smaller top-k.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial

import torch
from tiny_world import BITS, SMALL, batch, small_model

from ernie5.config import load_config
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.model.bit_growth import begin_with
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import FULL, SubModel, touched
from ernie5.model.router_balance import RouterBalance
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.build import StepConfig, build_engine
from ernie5.parallel.engine import Engine, MicroBatch
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.shards import InMemory, Shard, assemble
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective

MODEL = dataclasses.replace(SMALL, num_layers=6, num_heads=4, num_kv_heads=2)
LENGTH = 256
ROWS = (["text_to_image", "audio_to_text"], ["mixed"], ["text_to_video"], ["image_to_text", "text_to_audio", "text"])
HALF = tuple(tuple(sorted({layer % 2, 2 + (layer // 2) % 2})) for layer in range(MODEL.num_moe_layers))  # one of every pair of experts


@dataclass(frozen=True)
class Trained:
    """What one rank saw of a run: `losses` steps x 5, gradient norms, the last router counts of all layers, and its shards at the end."""

    losses: torch.Tensor
    norms: tuple[float, ...]
    load: torch.Tensor
    shards: tuple[Shard, ...]


def two_slots(step: int) -> tuple[SubModel, SubModel]:
    """The sub-models of a step's two slots; in some steps layer 1 or expert 0 runs nowhere."""
    shallow, narrow, sparse = SubModel((0, 2, 3, 4, 5)), SubModel(None, HALF), SubModel((0, 2, 3, 4, 5), HALF, 1)
    return ((shallow, sparse), (FULL, narrow), (narrow, sparse), (SubModel((0, 1, 3, 4, 5)), FULL), (sparse, shallow))[step % 5]


def plan_of(settings: dict) -> ParallelPlan:
    return load_config(ParallelPlan, settings, [])


def make_engine(
    world: World, settings: dict, elastic: bool, model: ModelConfig = MODEL, clip: float = 1.0, bits: tuple[int, ...] = (BITS,)
) -> Engine:
    built = small_model(model).to(world.device)
    begin_with(built, bits[0])
    optimizer = partial(make_optimizer, config=OptimizerConfig())
    return build_engine(plan_of(settings), built, optimizer, world, StepConfig(clip, False, elastic))


Ran = tuple[torch.Tensor, tuple[float, ...], torch.Tensor]


def run_steps(engine: Engine, steps: range, elastic: bool, model: ModelConfig = MODEL, bits: tuple[int, ...] = (BITS,)) -> Ran:
    """Losses, norms and the last step's router counts of these steps; every micro-batch is one row. `bits` that are on, by step; the last
    number for all that follow.
    """
    objective, balance = Objective(NextGroupLoss(), engine.model), RouterBalance(engine.model, speed=0.01)
    losses, norms, load = [], [], torch.zeros(0)
    for step in steps:
        on = bits[min(step, len(bits) - 1)]
        packed = [batch([row], length=LENGTH, seed=10 * step + i, history=HistoryConfig(), bits=on) for i, row in enumerate(ROWS)]
        slots = two_slots(step) if elastic else (FULL,)
        share = len(packed) // (len(slots) * engine.data_size)
        mine = [MicroBatch(packed[(slot * engine.data_size + engine.data_rank) * share + i].to(engine.world.device), submodel)
                for slot, submodel in enumerate(slots) for i in range(share)]
        counts = torch.tensor([dataclasses.astuple(TargetCounts.of(m.packed)) for m in mine], dtype=torch.float64).sum(dim=0)
        objective.begin(TargetCounts(*engine.sum_over_data(counts).tolist()), Weights())
        losses.append(engine.forward_backward(mine, objective).clone())
        result = engine.optimizer_step(1e-3 * (1 + step), touched(slots, model) if elastic else None)
        assert not result.skipped
        load, even = (engine.sum_over_world(of(model.num_moe_layers)) for of in (objective.load, objective.even))
        balance.step(load.sum(dim=1) - even)
        norms.append(result.grad_norm)
    return torch.stack(losses) if losses else torch.zeros(0, 5), tuple(norms), load


def train(world: World, settings: dict, elastic: bool = False, steps: int = 5, start: dict[str, torch.Tensor] | None = None,
          first: int = 0, model: ModelConfig = MODEL, bits: tuple[int, ...] = (BITS,)) -> Trained:
    """`steps` steps from step `first` on, from the state `start` if there is one."""
    engine = make_engine(world, settings, elastic, model, bits=bits)
    if start is not None:
        engine.load(InMemory(start))
    losses, norms, load = run_steps(engine, range(first, first + steps), elastic, model, bits)
    return Trained(losses, norms, load, tuple(Shard(s.name, s.shape, s.at, s.data.clone()) for s in engine.shards()))


def alone(elastic: bool = False, steps: int = 5, start: dict[str, torch.Tensor] | None = None, first: int = 0,
          bits: tuple[int, ...] = (BITS,)) -> Trained:
    """The reference: one process."""
    return train(World(0, 1, torch.device("cpu")), {}, elastic, steps, start, first, bits=bits)


def whole(ranks: list[Trained]) -> dict[str, torch.Tensor]:
    """The state of the model on one process, from all ranks."""
    return assemble(shard for rank in ranks for shard in rank.shards)


def check_parity(ranks: list[Trained], reference: Trained) -> None:
    """Losses and norms within 1e-4, router counts exact, weights and biases within what five steps of Adam make of 1e-6."""
    for rank in ranks:
        torch.testing.assert_close(rank.losses, reference.losses, rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(torch.tensor(rank.norms), torch.tensor(reference.norms), rtol=1e-4, atol=1e-6)
        torch.testing.assert_close(rank.load, reference.load, rtol=0, atol=0)
    found, expected = whole(ranks), whole([reference])
    assert found.keys() == expected.keys(), sorted(found.keys() ^ expected.keys())
    for name, tensor in expected.items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-3, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}")
