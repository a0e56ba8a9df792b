"""What cannot be spread over processes is refused before anything is built, with a way out."""

import pytest
from micro_run import micro_recipe

from ernie5.parallel.plan import ParallelPlan


@pytest.mark.parametrize(("plan", "world_size", "rows", "said"), [
    ({}, 3, 4, r"train.rows = 4 must be a multiple of the 3 processes; start \[1, 2, 4\] of them"),
    ({}, 8, 4, r"train.rows = 4 must be a multiple of the 8 processes"),
    ({"tensor": 2}, 2, 4, "parallel.tensor = 2"),
    ({"zero": 1}, 2, 4, "parallel.zero = 1"),
    ({"engine": "megatron"}, 2, 4, "parallel.engine = megatron"),
])
def test_plans_that_cannot_run(plan, world_size, rows, said) -> None:
    with pytest.raises(ValueError, match=said):
        ParallelPlan(**plan).check(world_size, rows)


def test_a_recipe_knows_its_number_of_processes(tmp_path) -> None:
    recipe = micro_recipe(tmp_path, None, "train.rows=4", "train.stages=[{from_step: 3, rows: 6}]")
    recipe.check(2)
    with pytest.raises(ValueError, match="must be a multiple of the 3 processes"):
        recipe.check(3)
    with pytest.raises(ValueError, match=r"times 4 process\(es\) must divide the 6 rows"):
        recipe.check(4)
