"""The torch engine under its plans does what one process does."""

import pytest
import torch
from parity import LENGTH, Trained, alone, check_parity, make_engine, train, whole
from tiny_world import batch

from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.shards import InMemory
from ernie5.parallel.world import World
from ernie5.train.training import Objective

PLANS = {
    "data 2": {}, "fsdp 2": {"zero": 3}, "fsdp 2, weights kept": {"zero": 2}, "expert 2": {"expert": 2},
    "fsdp and experts": {"zero": 3, "expert": 2},
}


@pytest.mark.parametrize("elastic", [False, True], ids=["full", "elastic"])
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_two_ranks_do_what_one_does(ranks, references, plan, elastic) -> None:
    check_parity(ranks.run(2, train, plan, elastic), references[elastic])


@pytest.mark.parametrize("plan", [{"expert": 2}, {"zero": 3, "expert": 2}], ids=["ddp", "fsdp"])
def test_four_ranks_share_experts_in_pairs(ranks, references, plan) -> None:
    check_parity(ranks.run(4, train, plan), references[False])


@pytest.mark.parametrize("plan", [{"zero": 3}, {"expert": 2}], ids=["fsdp", "expert"])
def test_state_goes_from_plan_to_plan(ranks, references, plan) -> None:
    """Three steps under the plan, two alone; and the other way round."""
    there = ranks.run(2, train, plan, True, 3)
    check_steps(alone(True, 2, whole(there), first=3), references[True])
    start = whole([alone(True, 3)])
    check_steps(ranks.run(2, train, plan, True, 2, start, 3)[0], references[True])


def check_steps(last_two: Trained, reference: Trained) -> None:
    torch.testing.assert_close(last_two.losses, reference.losses[3:], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("plan", [{"zero": 3}, {"zero": 3, "expert": 2}], ids=["fsdp", "fsdp and experts"])
def test_a_run_goes_on_bit_for_bit(ranks, plan) -> None:
    five, three = ranks.run(2, train, plan, True), ranks.run(2, train, plan, True, 3)
    two = ranks.run(2, train, plan, True, 2, whole(three), 3)
    assert torch.equal(torch.cat([three[0].losses, two[0].losses]), five[0].losses)
    straight, resumed = whole(five), whole(two)
    assert straight.keys() == resumed.keys() and all(torch.equal(straight[name], resumed[name]) for name in straight)


def one_rank_is_not_finite(world, plan) -> bool:
    """Rank 1 reads an infinite scale: nobody may move. Whether all that this rank holds is as before."""
    engine = make_engine(world, plan, elastic=False)
    before = {shard.name: shard.data.clone() for shard in engine.shards()}
    batches = [MicroBatch(batch([["mixed"]], length=LENGTH))]
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(TargetCounts.of(batches[0].packed), Weights(vision=torch.inf if world.rank == 1 else 1.0))
    engine.forward_backward(batches, objective)
    skipped = engine.optimizer_step(1e-2).skipped
    after = {shard.name: shard.data for shard in engine.shards()}
    return skipped and before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("plan", [{"zero": 3}, {"expert": 2}], ids=["fsdp", "expert"])
def test_a_step_that_is_not_finite_on_one_rank_moves_none(ranks, plan) -> None:
    assert ranks.run(2, one_rank_is_not_finite, plan) == [True, True]


def what_runs(world, plan) -> list[str]:
    engine = make_engine(world, plan, elastic=False)
    return [type(engine.runner).__mro__[1].__name__ if plan.get("zero") else type(engine.runner).__name__,
            *sorted({type(p).__name__ for p in engine.model.parameters()})]


def test_torch_itself_does_the_work(ranks) -> None:
    assert ranks.run(2, what_runs, {})[0] == ["DistributedDataParallel", "Parameter"]
    assert ranks.run(2, what_runs, {"zero": 3})[0] == ["FSDPModule", "DTensor"]


def test_another_model_is_refused_before_anything_changes() -> None:
    engine = make_engine(World(0, 1, torch.device("cpu")), {}, elastic=False)
    state = {shard.name: shard.data.clone() for shard in engine.shards()}
    wider = {**state, "model.norm.weight": torch.ones(64)}
    with pytest.raises(ValueError, match=r"norm.weight has the shape \(32,\) in this model and the checkpoint holds \(64,\)"):
        engine.load(InMemory(wider))
    with pytest.raises(ValueError, match="the checkpoint holds extra, which this model lacks"):
        engine.load(InMemory({**state, "model.extra": torch.ones(1)}))
