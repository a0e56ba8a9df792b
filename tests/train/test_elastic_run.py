"""Elastic training as a run: drawn sub-models are logged, exact on resume, and each kind of unit trains."""

import pytest
from micro_run import micro_recipe, run_micro, same_run, train_until_death

from ernie5.model.elastic_space import ElasticSpace
from ernie5.train.job import run_job

ELASTIC = ("model.num_layers=5", "train.rows=4", "train.steps=4", "elastic.slots=2", "elastic.depth={probability: 0.5, sizes: [4]}",
           "elastic.width={probability: 0.5, sizes: [2, 3]}", "elastic.sparsity={probability: 0.5, sizes: [1]}")


@pytest.mark.parametrize("unit", ["slot", "sample"])
def test_a_cut_run_ends_with_the_same_bits_and_sub_models(micro, tmp_path, unit: str) -> None:
    changes = (*ELASTIC, f"elastic.unit={unit}")
    whole = run_micro(micro_recipe(tmp_path / "whole", micro.folder, *changes))
    recipe = micro_recipe(tmp_path / "cut", micro.folder, *changes)
    train_until_death(recipe, 4)
    again = run_micro(recipe)
    assert min(again.sample_ids) == 3
    same_run(again, whole)
    sizes = [(line["elastic/layers"], line["elastic/experts"], line["elastic/top_k"]) for line in whole.metrics]
    assert len(set(sizes)) > 1 and all(4 <= d <= 5 and 2 <= w <= 4 and 1 <= k <= 2 for d, w, k in sizes)


def test_the_log_says_what_was_drawn(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, *ELASTIC, "train.steps=3")
    run = run_micro(recipe)
    space = ElasticSpace(recipe.elastic, recipe.model, num_codebooks=3)
    for line in run.metrics:
        drawn = [space.sample(recipe.run.seed, line["step"], slot).size(recipe.model) for slot in range(2)]
        means = [sum(size[axis] for size in drawn) / 2 for axis in range(3)]
        assert [line[f"elastic/{axis}"] for axis in ("layers", "experts", "top_k")] == means


def test_slots_do_not_change_the_data(micro, tmp_path) -> None:
    short = ("train.rows=4", "train.steps=2")
    one, four = (run_micro(micro_recipe(tmp_path / f"slots {n}", micro.folder, *short, f"elastic.slots={n}")) for n in (1, 4))
    assert one.sample_ids == four.sample_ids
    for a, b in zip(one.metrics, four.metrics, strict=True):
        assert a["loss/total"] == pytest.approx(b["loss/total"], rel=1e-5)


def test_slots_that_do_not_divide_the_rows(micro, tmp_path) -> None:
    with pytest.raises(ValueError, match="elastic.slots = 3 times 1 data rank"):
        run_job(micro_recipe(tmp_path / "run", micro.folder, "train.rows=4", "elastic.slots=3"))
    assert not (tmp_path / "run").exists()
