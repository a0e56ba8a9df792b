"""Estimates move as they must, and a search finds the obvious plan."""

import dataclasses

import pytest

from ernie5.config import load_config
from ernie5.model.elastic_space import AxisConfig, ElasticConfig
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.estimate import Job, estimate, expected_run
from ernie5.planner.hardware import HARDWARE
from ernie5.planner.job import job_of
from ernie5.planner.run import fixed_keys
from ernie5.planner.search import search
from ernie5.planner.told import told_search
from ernie5.planner.ways import fits, too_full
from ernie5.recipe import Recipe
from ernie5.train.assemble import planned_size

MODEL = {"dim": 1024, "num_layers": 16, "num_heads": 16, "num_kv_heads": 4, "num_experts": 32, "top_k": 4, "expert_dim": 640}
RECIPE = load_config(Recipe, {"model": MODEL, "train": {"rows": 64, "length": 4096, "micro_rows": 1}})


def job(world: int, memory_gib: float = 79.0) -> Job:
    return job_of(RECIPE, dataclasses.replace(HARDWARE["h100"], memory=memory_gib * 2**30), world)


def test_estimates_move_as_they_must() -> None:
    alone, eight = estimate(ParallelPlan(), job(1)), estimate(ParallelPlan(), job(8))
    assert 7 < alone.step_s / eight.step_s < 8 and alone.mfu > eight.mfu
    assert alone.flops_per_token == eight.flops_per_token == pytest.approx(planned_size(RECIPE).flops_per_token, rel=0.1)
    again = estimate(ParallelPlan(memory=MemoryConfig(recompute="full")), job(8))
    assert again.step_s > eight.step_s and again.peak < eight.peak and again.flops_per_token == eight.flops_per_token
    piped, turns = (estimate(ParallelPlan(engine="megatron", pipeline=4, virtual_pipeline=v), job(8)) for v in (1, 2))
    assert piped.passes == 32 and piped.bubble == pytest.approx(3 / 35) and turns.bubble == pytest.approx(1.5 / 33.5)
    assert turns.stages[0].memory.activations > piped.stages[0].memory.activations


def test_expected_sub_models() -> None:
    elastic = ElasticConfig(depth=AxisConfig(0.25, (8, 12)), sparsity=AxisConfig(0.5, (2,)))
    run = expected_run(job(1).model, elastic)
    assert run.layers == 0.75 * 16 + 0.25 * 10 and run.top_k == 3
    assert expected_run(job(1).model, dataclasses.replace(elastic, unit="sample")).layers == 16
    planned = job(1)
    found = estimate(ParallelPlan(), dataclasses.replace(planned, workload=dataclasses.replace(planned.workload, elastic=elastic)))
    assert found.expected_flops_per_token < found.flops_per_token and found.step_s < estimate(ParallelPlan(), planned).step_s


def test_where_all_fits_plain_data_parallel_is_fastest() -> None:
    best = search(ParallelPlan(), job(8), frozenset())[0].estimate.plan
    assert (best.tensor, best.pipeline, best.context, best.memory.recompute) == (1, 1, 1, "none")


def test_where_states_do_not_fit_something_is_shared() -> None:
    small = job(8, memory_gib=12.0)
    assert not fits(estimate(ParallelPlan(memory=MemoryConfig(recompute="full", loss_chunk=1024)), small), small)
    found = search(ParallelPlan(memory=MemoryConfig(loss_chunk=1024)), small, frozenset())
    assert found and all(f.estimate.peak < 12 * 2**30 for f in found)
    plans = [f.estimate.plan for f in found]
    assert all(p.zero or p.expert > 1 or p.tensor > 1 or p.pipeline > 1 for p in plans)
    assert [f.estimate.step_s for f in found] == sorted(f.estimate.step_s for f in found)


def test_what_is_given_stays() -> None:
    fixed = fixed_keys(["parallel.engine=megatron", "parallel.pipeline=2", "parallel.memory.recompute=full", "train.micro_rows=1", "x.y=1"])
    assert fixed == {"engine", "pipeline", "recompute", "micro_rows"}
    plan = ParallelPlan(engine="megatron", pipeline=2, memory=MemoryConfig(recompute="full"))
    found = search(plan, job(8), fixed)
    assert found and {(f.estimate.plan.engine, f.estimate.plan.pipeline, f.estimate.plan.memory.recompute, f.micro_rows)
                      for f in found} == {("megatron", 2, "full", 1)}


def test_nothing_fits() -> None:
    tiny = job(8, memory_gib=1.0)
    assert search(ParallelPlan(), tiny, frozenset()) == []
    assert "no plan fits 8 x h100" in told_search([], tiny)


def test_the_reason_names_what_would_help() -> None:
    tight = job(1, memory_gib=21.0)
    reason = too_full(estimate(ParallelPlan(), tight), tight)
    assert reason.startswith("a rank needs") and "GiB for it; parallel.memory.recompute = full needs" in reason
    hopeless = job(1, memory_gib=2.0)
    assert "no single change" in too_full(estimate(ParallelPlan(), hopeless), hopeless)
    assert too_full(estimate(ParallelPlan(), job(1)), job(1)) == ""
