"""Every plan that cannot be, or would train wrongly, is refused by name before anything is built; what can be is let through."""

import dataclasses
import math

import pytest

from ernie5.config import load_config
from ernie5.model.config import ModelConfig
from ernie5.parallel import plan_rules
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.plan_rules import check_machine, reasons
from ernie5.parallel.plan_words import divisors, one_of
from ernie5.parallel.workload import Workload
from ernie5.recipe import Recipe

MODEL = ModelConfig(dim=128, num_layers=8, num_heads=8, num_kv_heads=4, num_experts=16, top_k=2, expert_dim=64)
WORKLOAD = Workload(MODEL, rows=16, length=256, micro_rows=1)
MEGATRON = {"engine": "megatron"}


def first(world: int, plan: dict, **changed: object) -> str:
    """The first reason against a plan, or an empty text."""
    return next(reasons(load_config(ParallelPlan, plan), world, dataclasses.replace(WORKLOAD, **changed)), "")


def elastic(**settings: object):
    return load_config(Recipe, {"elastic": settings}).elastic


@pytest.mark.parametrize(("world", "plan"), [
    (1, {}), (4, {}), (4, {"zero": 2}), (8, {"zero": 3}), (8, {"expert": 8}), (4, {"zero": 3, "expert": 2}), (4, {"data": 4}),
    (4, {"engine": "deepspeed"}), (4, {"engine": "deepspeed", "zero": 3, "deepspeed": {"steps_per_print": 7}}),
    (2, MEGATRON | {"tensor": 2}), (2, MEGATRON | {"tensor": 2, "sequence": True}), (4, MEGATRON | {"tensor": 2, "expert": 4}),
    (4, MEGATRON | {"pipeline": 4, "virtual_pipeline": 2}), (16, MEGATRON | {"context": 2, "tensor": 2, "pipeline": 2, "zero": 1}),
])
def test_what_can_be(world, plan) -> None:
    assert first(world, plan) == ""
    load_config(ParallelPlan, plan).check(world, WORKLOAD)


@pytest.mark.parametrize(("world", "plan", "message"), [
    # degrees
    (1, {"tensor": 0}, "parallel.tensor = 0 is a number of ranks"),
    (1, {"data": 0}, "parallel.data = 0 is a number of ranks; use 1 or more, or -1"),
    (4, MEGATRON | {"expert_tensor": 2}, "experts are fine-grained and stay whole; use parallel.expert_tensor = 1"),
    (2, MEGATRON | {"sequence": True}, "parallel.tensor = 1; use parallel.sequence = false"),
    (2, MEGATRON | {"virtual_pipeline": 2}, "parallel.virtual_pipeline = 2 needs parallel.pipeline above 1"),
    # what an engine can do
    (2, {"tensor": 2}, "parallel.tensor = 2 is nothing that parallel.engine = torch can do; use parallel.tensor = 1 or "),
    (2, {"pipeline": 2}, "use parallel.pipeline = 1 or parallel.engine = megatron"),
    (2, {"context": 2}, "use parallel.context = 1 or parallel.engine = megatron"),
    (2, {"engine": "deepspeed", "expert": 2}, "use parallel.expert = 1 or parallel.engine = torch or megatron"),
    (2, {"zero": 1}, "use parallel.zero = 0, 2 or 3, or parallel.engine = deepspeed or megatron"),
    (2, {"zero": 4}, "parallel.zero = 4 is nothing that parallel.engine = torch can do; use parallel.zero = 0, 2 or 3"),
    (2, MEGATRON | {"zero": 3}, "use parallel.zero = 0 or 1, or parallel.engine = torch or deepspeed"),
    (2, {"deepspeed": {"steps_per_print": 7}}, "parallel.deepspeed sets steps_per_print, which parallel.engine = torch never reads"),
    (2, {"engine": "deepspeed", "deepspeed": {"fp16": {"enabled": True}}}, "use train.precision = bf16"),
    (2, MEGATRON | {"tensor": 2, "memory": {"loss_chunk": 64}},
        "parallel.tensor = 2 splits the text head over ranks instead; use parallel.memory.loss_chunk = 0"),
    # world
    (6, MEGATRON | {"tensor": 4}, "parallel.tensor = 4 ranks must divide the 6 process(es); start 4 of them or a multiple, or use a "
        "product of 1, 2, 3 or 6"),
    (4, {"data": 2}, "parallel.data = 2 is 2 processes, but there are 4; use parallel.data = 4, or -1"),
    (8, MEGATRON | {"data": 2, "tensor": 2}, "parallel.data = 2 * parallel.tensor = 2 is 4 processes, but there are 8; "),
    (4, {"expert": 8}, "parallel.expert = 8 must divide the 4 data * tensor * context ranks that share the experts; use 1, 2 or 4"),
    # model
    (3, MEGATRON | {"tensor": 3}, "parallel.tensor = 3 must divide model.num_heads = 8; use 1, 2, 4 or 8"),
    (8, MEGATRON | {"tensor": 8}, "parallel.tensor = 8 must divide model.num_kv_heads = 4; use 1, 2 or 4"),
    (3, {"expert": 3}, "parallel.expert = 3 must divide model.num_experts = 16; use 1, 2, 4, 8 or 16"),
    (4, MEGATRON | {"pipeline": 4, "virtual_pipeline": 4}, "is 16 pieces, more than model.num_layers = 8; use a product of at most 8"),
    # shape of a step
    (5, {}, "elastic.slots = 1 times 5 data rank(s) must divide the 16 rows of a step; use 1, 2, 4, 8 or 16 data ranks"),
    (3, MEGATRON | {"context": 3}, "cuts a row into 6 equal chunks, which must divide train.length = 256; use 1, 2, 4, 8, "),
    # what would be wrong in silence: DeepSpeed shares different experts as if they were one weight
    (2, {"engine": "deepspeed", "zero": 3, "expert": 2}, "parallel.expert = 2 is nothing that parallel.engine = deepspeed can do"),
])
def test_refused(world, plan, message) -> None:
    assert message in first(world, plan)
    with pytest.raises(ValueError, match="parallel|elastic"):
        load_config(ParallelPlan, plan).check(world, WORKLOAD)


@pytest.mark.parametrize(("world", "plan", "changed", "message"), [
    (2, MEGATRON | {"tensor": 2}, {"length": 255}, "parallel.tensor = 2 must divide the positions of a micro-batch = 255"),
    (4, {"expert": 4}, {"elastic": elastic(width={"probability": 0.2, "sizes": [8]}, expert_blocks=2)},
        "parallel.expert = 4 must divide elastic.expert_blocks = 2; use 1 or 2, or elastic.expert_blocks = 4"),
    (2, {}, {"elastic": elastic(slots=16)}, "elastic.slots = 16 times 2 data rank(s) must divide the 16 rows of a step; use 1"),
    (2, MEGATRON | {"pipeline": 2}, {"micro_rows": 3}, "train.micro_rows = 3 must divide the 16 rows"),
    (4, MEGATRON | {"pipeline": 4, "virtual_pipeline": 2}, {"micro_rows": 8},
        "a multiple of parallel.pipeline = 4 passes, but a step has 2; use train.micro_rows = 1, 2 or 4"),
    (4, MEGATRON | {"pipeline": 4, "virtual_pipeline": 2}, {"rows": 2}, "a step has 2; use 4 rows, or a multiple"),
    (4, MEGATRON | {"pipeline": 4, "virtual_pipeline": 2}, {"ramp": True}, "use train.ramp_steps = 0 or"),
    (2, {"engine": "deepspeed", "zero": 3}, {"elastic": elastic(depth={"probability": 0.2, "sizes": [5]})},
        "DeepSpeed gives layers that a step left out the gradient of the step before"),
    (2, {"zero": 3}, {"elastic": elastic(unit="sample", depth={"probability": 0.2, "sizes": [5]})},
        "elastic.unit = sample with elastic.depth lets ranks run different layers"),
    (2, MEGATRON | {"pipeline": 2}, {"own_objective": True}, "train.objective is your own, but with parallel.pipeline = 2"),
])
def test_refused_for_this_workload(world, plan, changed, message) -> None:
    assert message in first(world, plan, **changed)
    assert message not in first(world, plan)


def test_elastic_depth_and_zero_3_work_where_absent_gradients_stay_absent() -> None:
    shallow = elastic(depth={"probability": 0.2, "sizes": [5]})
    assert first(2, {"zero": 3}, elastic=shallow) == first(2, {"engine": "deepspeed", "zero": 2}, elastic=shallow) == ""


def test_experts_need_blocks_only_where_width_is_drawn() -> None:
    assert first(4, {"expert": 4}, elastic=elastic(depth={"probability": 0.2, "sizes": [5]})) == ""
    assert first(4, {"expert": 4}, elastic=elastic(width={"probability": 0.2, "sizes": [8]}, expert_blocks=4)) == ""


def test_products_of_experts_need_rows_of_16_bytes() -> None:
    with pytest.raises(ValueError, match="model.expert_dim = 12 must be multiples of 8"):
        dataclasses.replace(MODEL, expert_dim=12).check()


def test_recipe_asks_for_every_stage_and_knows_the_smallest_world() -> None:
    plan = {"engine": "megatron", "tensor": 2, "expert": 8, "context": 2}
    recipe = load_config(Recipe, {"parallel": plan, "train": {"rows": 8}, "model": {"num_heads": 4}})
    assert recipe.parallel.smallest_world() == 8
    recipe.check()
    recipe.check(16)
    with pytest.raises(ValueError, match="must divide the 1 process"):
        recipe.check(1)
    staged = load_config(Recipe, {"parallel": plan, "train": {"rows": 8, "stages": [{"from_step": 5, "length": 254}]}})
    with pytest.raises(ValueError, match="train.length = 254"):
        staged.check(8)


def test_fp8_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="train.precision = fp8 .*use auto, bf16 or fp32"):
        load_config(Recipe, {"train": {"precision": "fp8"}}).check()


@pytest.mark.parametrize("engine", ["deepspeed", "megatron"])
def test_an_engine_that_is_not_installed(engine, monkeypatch) -> None:
    plan, package = ParallelPlan(engine=engine), {"deepspeed": "deepspeed", "megatron": "megatron-core"}[engine]
    monkeypatch.setattr(plan_rules, "find_spec", lambda module: None)
    with pytest.raises(ValueError, match=f"not installed here; pip install {package}"):
        check_machine(plan, "cpu")
    check_machine(ParallelPlan(), "cpu")


def test_packages_around_a_missing_engine_are_missing_too() -> None:
    assert plan_rules.installed("torch.nn") and not plan_rules.installed("no_such_package.core")


def test_offload_without_a_gpu() -> None:
    plan = load_config(ParallelPlan, {"memory": {"offload": ["optimizer"]}})
    with pytest.raises(ValueError, match=r"parallel.memory.offload = \[optimizer\] .* use parallel.memory.offload = \[\]"):
        check_machine(plan, "cpu")
    check_machine(plan, "cuda")


def test_words() -> None:
    assert one_of([1]) == "1" and one_of([1, 2]) == "1 or 2" and one_of(range(1, 4)) == "1, 2 or 3"
    assert one_of(divisors(1536)) == "1, 2, 3, 4, 6, 8, 12, 16, … or 1536"
    for n in range(1, 200):
        assert divisors(n) == [i for i in range(1, n + 1) if math.gcd(i, n) == i]


def test_ranks_that_share_layers_and_experts() -> None:
    plan = ParallelPlan(engine="megatron", tensor=4, pipeline=12, expert=64)
    assert (plan.smallest_world(), plan.data_size(1536), plan.stage_size(1536), plan.expert_data_size(1536)) == (768, 32, 128, 2)
