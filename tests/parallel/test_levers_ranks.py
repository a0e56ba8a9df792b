"""Memory levers under data ranks, sliced weights, split experts and DeepSpeed: the same as one process without them."""

from functools import partial

import pytest
import torch
from contracts import goes_on_bit_for_bit
from parity import MODEL, Trained, alone, check_parity, make_engine, run_steps, train, whole
from tiny_world import small_model

from ernie5.parallel.build import build_engine
from ernie5.parallel.host_optimizer import HostOptimizer
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.shards import Shard
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer

ALL = {"recompute": "full", "offload": ["activations", "optimizer"], "loss_chunk": 5, "expert_rows": 150}
SOME = {"recompute": "selective", "loss_chunk": 5, "expert_rows": 150}
PLANS = {
    "data 2": {"memory": ALL}, "fsdp 2": {"zero": 3, "memory": ALL}, "experts": {"expert": 2, "memory": SOME},
    "fsdp and experts": {"zero": 3, "expert": 2, "memory": ALL},
    "deepspeed 2": {"engine": "deepspeed", "zero": 2, "memory": ALL | {"offload": ["activations"]}},
}
ONE = World(0, 1, torch.device("cpu"))


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_two_ranks_with_levers_do_what_one_does_without(ranks, references, plan) -> None:
    check_parity(ranks.run(2, train, plan, True), references[True])


def train_on_slices(world: World, memory: MemoryConfig) -> tuple[Trained, set[int]]:
    """Two steps of DeepSpeed's ZeRO 3, which slices small weights only when told; the sizes of weights that a rank holds between steps."""
    plan = ParallelPlan(engine="deepspeed", zero=3, memory=memory,
                        deepspeed={"zero_optimization": {"stage3_param_persistence_threshold": 0}})
    engine = build_engine(plan, small_model(MODEL), partial(make_optimizer, config=OptimizerConfig()), world)
    losses, norms, load = run_steps(engine, range(2), elastic=False)
    shards = tuple(Shard(s.name, s.shape, s.at, s.data.clone()) for s in engine.shards())
    return Trained(losses, norms, load, shards), {p.numel() for p in engine.model.parameters()}


@pytest.mark.parametrize("memory", [
    MemoryConfig("full", ("activations",), 5, 150), MemoryConfig("selective", ("optimizer",), 5, 150)], ids=["full", "selective"])
def test_deepspeed_slices_weights_of_what_runs_again(ranks, memory) -> None:
    results = ranks.run(2, train_on_slices, memory)
    check_parity([trained for trained, _ in results], alone(False, 2))
    assert all(held == {0} for _, held in results)


def test_moments_on_the_host_change_no_bit(references) -> None:
    found, expected = whole([train(ONE, {"memory": {"offload": ["optimizer"]}}, True)]), whole([references[True]])
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


def test_a_run_with_moments_on_the_host_goes_on_bit_for_bit(ranks) -> None:
    goes_on_bit_for_bit(ranks, 2, {"zero": 3, "memory": {"offload": ["optimizer"]}}, True)


def test_a_state_goes_between_host_and_device() -> None:
    start, memory = whole([alone(True, 3)]), {"memory": {"offload": ["optimizer"]}}
    assert torch.equal(train(ONE, memory, True, 2, start, 3).losses, alone(True, 2, start, 3).losses)


def test_the_inner_optimizer_steps_copies() -> None:
    engine = make_engine(ONE, {"memory": {"offload": ["optimizer"]}}, elastic=False)
    assert isinstance(engine.optimizer, HostOptimizer)
    ours, theirs = engine.optimizer.param_groups[0]["params"], engine.optimizer.inner.param_groups[0]["params"]
    assert len(ours) == len(theirs) and not {id(p) for p in ours} & {id(p) for p in theirs}
