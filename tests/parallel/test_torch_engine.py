"""The torch engine under its plans does what one process does."""

import pytest
import torch
from contracts import goes_on_bit_for_bit, one_rank_is_not_finite, state_goes_from_plan_to_plan
from parity import check_parity, make_engine, train

from ernie5.parallel.shards import InMemory
from ernie5.parallel.world import World

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
    state_goes_from_plan_to_plan(ranks, 2, plan, True, references[True])


@pytest.mark.parametrize("plan", [{"zero": 3}, {"zero": 3, "expert": 2}], ids=["fsdp", "fsdp and experts"])
def test_a_run_goes_on_bit_for_bit(ranks, plan) -> None:
    goes_on_bit_for_bit(ranks, 2, plan, True)


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
