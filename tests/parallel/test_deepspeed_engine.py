"""DeepSpeed's engine under ZeRO 0 to 3 does what one process does."""

import pytest
from contracts import goes_on_bit_for_bit, one_rank_is_not_finite, state_goes_from_plan_to_plan
from parity import HALF, LENGTH, MODEL, check_parity, make_engine, train
from tiny_world import batch

from ernie5.model.elastic import SubModel, touched
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.deepspeed.config import deepspeed_config
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.train.training import Objective


def zero(stage: int) -> dict:
    """Stage 3 with every weight in slices; by default it keeps small ones whole."""
    more = {"deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}} if stage == 3 else {}
    return {"engine": "deepspeed", "zero": stage, **more}


@pytest.mark.parametrize(("stage", "elastic"), [(0, True), (1, False), (1, True), (2, True), (3, False)])
def test_two_ranks_do_what_one_does(ranks, references, stage, elastic) -> None:
    check_parity(ranks.run(2, train, zero(stage), elastic), references[elastic])


def test_state_goes_from_plan_to_plan(ranks, references) -> None:
    state_goes_from_plan_to_plan(ranks, 2, zero(2), True, references[True])
    state_goes_from_plan_to_plan(ranks, 2, zero(3), False, references[False])


@pytest.mark.parametrize(("stage", "elastic"), [(1, True), (3, False)])
def test_a_run_goes_on_bit_for_bit(ranks, stage, elastic) -> None:
    goes_on_bit_for_bit(ranks, 2, zero(stage), elastic)


@pytest.mark.parametrize("stage", [0, 2, 3])
def test_a_step_that_is_not_finite_on_one_rank_moves_none(ranks, stage) -> None:
    assert ranks.run(2, one_rank_is_not_finite, zero(stage)) == [True, True]


def what_runs(world, plan) -> tuple[str, str, int, float]:
    engine = make_engine(world, plan, elastic=False, clip=0.5)
    runs, shares = engine.deepspeed, engine.deepspeed.optimizer
    return type(runs).__module__, type(shares).__name__, runs.zero_optimization_stage(), runs.gradient_clipping()


def test_deepspeed_itself_does_the_work(ranks) -> None:
    assert ranks.run(2, what_runs, zero(2))[0] == ("deepspeed.runtime.engine", "DeepSpeedZeroOptimizer", 2, 0.5)
    assert ranks.run(2, what_runs, zero(3))[0] == ("deepspeed.runtime.engine", "DeepSpeedZeroOptimizer_Stage3", 3, 0.5)


def zero_3_step(world, submodel: SubModel) -> str | dict:
    """One step of a sub-model: the weights that moved, as (layer, expert), or what the engine says against it."""
    engine = make_engine(world, zero(3), elastic=True)
    packed = batch([["mixed"]], length=LENGTH)
    before = {shard.name: shard.data.clone() for shard in engine.shards()}
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(TargetCounts.of(packed), Weights())
    engine.forward_backward([MicroBatch(packed, submodel)], objective)
    try:
        engine.optimizer_step(1e-2, touched([submodel], MODEL))
    except ValueError as error:
        return str(error)
    moved = {}
    for shard in engine.shards():
        if "experts.up" in shard.name and shard.name in before:
            moved[shard.name] = [e for e in range(MODEL.num_experts) if not before[shard.name][e].equal(shard.data[e])]
    return moved


def test_zero_3_keeps_experts_that_were_left_out_and_refuses_skipped_layers(ranks) -> None:
    moved = {name: experts for rank in ranks.run(2, zero_3_step, SubModel(None, HALF)) for name, experts in rank.items()}
    assert len(moved) == MODEL.num_moe_layers
    for name, experts in moved.items():
        layer = int(name.split(".")[2]) if "layers." in name else MODEL.num_layers
        assert experts and set(experts) <= set(HALF[layer]), name
    refused = ranks.run(2, zero_3_step, SubModel((0, 2, 3, 4, 5)))
    assert all("parallel.zero = 2, or elastic.depth.probability = 0" in error for error in refused)


def test_the_plan_becomes_a_configuration() -> None:
    plan = ParallelPlan(engine="deepspeed", zero=2, memory=MemoryConfig(offload=("optimizer",)),
                        deepspeed={"wall_clock_breakdown": True, "zero_optimization": {"overlap_comm": False}})
    made = deepspeed_config(plan, clip=0.0, bf16=True)
    assert made["gradient_clipping"] == 0.0 and made["wall_clock_breakdown"] and made["torch_autocast"]["enabled"]
    assert made["zero_optimization"] == {"stage": 2, "overlap_comm": False, "offload_optimizer": {"device": "cpu", "pin_memory": False}}


@pytest.mark.parametrize(("key", "instead"), [("gradient_clipping", "train.optimizer.clip"), ("zero_optimization", "parallel.zero")])
def test_keys_that_the_recipe_says_elsewhere_are_refused(key, instead) -> None:
    extra = {key: {"stage": 1} if key == "zero_optimization" else 2.0}
    with pytest.raises(ValueError, match=rf"parallel.deepspeed.{key}.* is set by the recipe; use {instead}"):
        deepspeed_config(ParallelPlan(engine="deepspeed", deepspeed=extra), 1.0, False)
