"""Drawing sub-models: a pure function with the stated probabilities, and recipes that ask for the impossible."""

import dataclasses
import re

import pytest
from tiny_world import SMALL

from ernie5.model.elastic import FULL, SubModel, thinned, touched
from ernie5.model.elastic_space import AxisConfig, ElasticConfig, ElasticSpace

MODEL = dataclasses.replace(SMALL, num_layers=10, num_experts=16, top_k=4)
ALL = ElasticConfig("slot", 4, 4, AxisConfig(0.25, (6, 8)), AxisConfig(0.2, (8,)), AxisConfig(0.2, (1, 2)))
SPACE = ElasticSpace(ALL, MODEL, num_codebooks=3)


def test_the_draw_depends_on_seed_step_and_slot_alone() -> None:
    drawn = [SPACE.sample(1, step, slot) for step in range(20) for slot in range(4)]
    assert drawn == [SPACE.sample(1, step, slot) for step in range(20) for slot in range(4)]
    assert drawn != [SPACE.sample(2, step, slot) for step in range(20) for slot in range(4)]
    assert len(set(drawn)) > 10 and SPACE.sample(1, 3, "source/7") == SPACE.sample(1, 3, "source/7")


def test_probabilities_are_those_of_the_recipe_and_axes_are_independent() -> None:
    drawn = [SPACE.sample(0, step, slot) for step in range(1000) for slot in range(4)]
    for submodel in drawn:
        submodel.check(MODEL, 3)
    n = len(drawn)
    depth, width, sparsity = ([getattr(s, axis) is not None for s in drawn] for axis in ("keep_layers", "experts", "top_k"))
    assert sum(depth) / n == pytest.approx(0.25, abs=0.03) and sum(width) / n == pytest.approx(0.2, abs=0.03)
    assert sum(sparsity) / n == pytest.approx(0.2, abs=0.03)
    assert sum(a and b and c for a, b, c in zip(depth, width, sparsity, strict=True)) / n == pytest.approx(0.01, abs=0.006)
    assert {s.size(MODEL) for s in drawn} == {(d, w, k) for d in (10, 6, 8) for w in (16, 8) for k in (4, 1, 2)}


def test_experts_come_evenly_from_blocks_and_differ_between_layers() -> None:
    sets = [s.experts for slot in range(100) if (s := SPACE.sample(0, 1, slot)).experts is not None]
    assert sets and all(len(layers) == MODEL.num_layers + 1 for layers in sets)
    for layers in sets:
        assert len(set(layers)) > 1
        for experts in layers:
            assert [sum(e // 4 == block for e in experts) for block in range(4)] == [2, 2, 2, 2]
    chosen = [e for layers in sets for experts in layers for e in experts]
    assert set(chosen) == set(range(16))


def test_depth_keeps_the_ends_and_thins_the_middle() -> None:
    assert thinned(10, 3, 10) == tuple(range(10)) and thinned(10, 3, 4) == (0, 7, 8, 9)
    for keep in range(4, 11):
        kept = thinned(10, 3, keep)
        assert len(kept) == keep and set(kept) >= {0, 7, 8, 9}
        assert max(b - a for a, b in zip(kept, kept[1:], strict=False)) <= -(-7 // (keep - 3))
    with pytest.raises(ValueError, match="use 4 to 10"):
        thinned(10, 3, 3)


def test_a_width_of_nothing_drawn_is_the_full_model() -> None:
    off = ElasticSpace(ElasticConfig(), MODEL, 3)
    assert not off.config.on and off.sample(0, 1, 0) == FULL


def test_touched_is_the_union_over_the_step() -> None:
    model = dataclasses.replace(SMALL, num_layers=5)
    part = SubModel(keep_layers=(0, 2, 3, 4), experts=((0, 1),) * 6)
    other = SubModel(keep_layers=(0, 2, 3, 4), experts=((1, 3),) * 6)
    assert touched([part, other], model).experts == (frozenset({0, 1, 3}), frozenset(), *[frozenset({0, 1, 3})] * 4)
    assert touched([part, FULL], model).experts == (frozenset(range(4)),) * 6


@pytest.mark.parametrize(("changes", "message"), [
    ({"depth": AxisConfig(0.5, (3,))}, "elastic.depth.sizes: 3 is impossible; use 4 to 9"),
    ({"depth": AxisConfig(0.5, (10,))}, "elastic.depth.sizes: 10 is impossible"),
    ({"depth": AxisConfig(1.5, (8,))}, "elastic.depth.probability = 1.5 must lie between 0 and 1"),
    ({"width": AxisConfig(0.5, (9,))}, "elastic.width.sizes: 9 experts cannot come evenly from elastic.expert_blocks = 4"),
    ({"width": AxisConfig(0.5, (3,)), "expert_blocks": 1}, "elastic.width.sizes: 3 experts are fewer than model.top_k = 4"),
    ({"width": AxisConfig(0.5)}, "elastic.width.sizes is empty"),
    ({"sparsity": AxisConfig(0.5, (4,))}, "elastic.sparsity.sizes: 4 is impossible; use 1 to 3"),
    ({"expert_blocks": 5}, "elastic.expert_blocks = 5 must divide model.num_experts = 16"),
    ({"slots": 0}, "elastic.slots = 0"),
])
def test_the_impossible_is_named(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(ALL, **changes).check(MODEL, 3)
    ALL.check(MODEL, 3)


def test_a_model_with_no_layer_to_spare_says_so() -> None:
    with pytest.raises(ValueError, match=re.escape("this model has none to spare; use elastic.depth.probability = 0")):
        ElasticConfig(depth=AxisConfig(0.5, (4,))).check(SMALL, 3)
