"""A step leaves weights and moments of what it did not run as they were, bit for bit, and moves the rest as ever."""

import dataclasses
from functools import partial

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL, SubModel, touched
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.torch_engine import TorchEngine
from ernie5.parallel.untouched import untouched_rows
from ernie5.parallel.world import World
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective

CONFIG = dataclasses.replace(SMALL, num_layers=6)
HALF = SubModel(keep_layers=(0, 2, 3, 4, 5), experts=((0, 3), (0, 1), (1, 2), (0, 2), (1, 3), (0, 1), (2, 3)))


def whole_state(engine: TorchEngine) -> dict[str, torch.Tensor]:
    return {shard.name: shard.data for shard in engine.shards()}


def step(engine: TorchEngine, submodels: list[SubModel], masked: bool = True) -> None:
    packed = [batch([["mixed", "text_to_image"]], length=256, seed=i) for i in range(len(submodels))]
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(sum((TargetCounts.of(p) for p in packed), start=TargetCounts()), Weights())
    engine.forward_backward([MicroBatch(p, s) for p, s in zip(packed, submodels, strict=True)], objective)
    assert not engine.optimizer_step(1e-2, touched(submodels, CONFIG) if masked else None).skipped


@pytest.fixture
def engine() -> TorchEngine:
    """After a step of the full model, so that all moments are there."""
    model = small_model(CONFIG)
    engine = TorchEngine(model, partial(make_optimizer, config=OptimizerConfig()), World(0, 1, torch.device("cpu")), elastic=True)
    step(engine, [FULL])
    return engine


def changed_rows(before: dict, after: dict) -> dict[str, set[int] | bool]:
    """Per expert where there is a row per expert."""
    found: dict[str, set[int] | bool] = {}
    for name, old in before.items():
        different = old != after[name]
        by_expert = ".moe.experts." in name or ".moe.router.weight" in name
        by_expert = by_expert and not name.startswith("optimizer.step")
        found[name] = set(different.flatten(1).any(dim=1).nonzero().flatten().tolist()) if by_expert else bool(different.any())
    return found


def test_what_no_sub_model_ran_stays_bit_for_bit(engine) -> None:
    before = {k: v.clone() for k, v in whole_state(engine).items()}
    step(engine, [HALF])
    changed = changed_rows(before, whole_state(engine))
    for name, rows in changed.items():
        if "balance_bias" in name or name.startswith("optimizer.step") and "layers.1." not in name:
            continue
        if ".layers.1." in name and "understanding" not in name:
            assert not rows, name
        elif isinstance(rows, set):
            layer = 6 if "multi_token" in name else int(name.split("layers.")[1].split(".")[0])
            assert rows == set(HALF.experts[layer]), name
        elif ".attention." in name and "understanding" not in name:
            assert rows, name


def test_an_expert_that_one_slot_ran_moves(engine) -> None:
    before = {k: v.clone() for k, v in whole_state(engine).items()}
    step(engine, [HALF, SubModel(experts=((1, 2),) * 7)])
    changed = changed_rows(before, whole_state(engine))
    assert changed["model.layers.0.moe.experts.up"] == {0, 1, 2, 3} and changed["model.layers.1.moe.experts.up"] == {1, 2}
    assert changed["model.layers.2.moe.experts.up"] == {1, 2}


def test_without_the_mask_momentum_would_move_them(engine) -> None:
    """The trap that the mask is there for: a gradient of zero is not no step."""
    before = {k: v.clone() for k, v in whole_state(engine).items()}
    step(engine, [SubModel(experts=HALF.experts)], masked=False)
    assert changed_rows(before, whole_state(engine))["model.layers.0.moe.experts.up"] == {0, 1, 2, 3}


def test_all_touched_is_the_plain_step() -> None:
    states = []
    for masked in (True, False):
        model = small_model(CONFIG)
        engine = TorchEngine(model, partial(make_optimizer, config=OptimizerConfig()), World(0, 1, torch.device("cpu")))
        step(engine, [FULL, FULL], masked)
        states.append({k: v.clone() for k, v in whole_state(engine).items()})
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])


def test_rows_by_name() -> None:
    part = touched([HALF], CONFIG)
    rows = lambda name, *shape: untouched_rows(name, shape, part)  # noqa: E731
    assert rows("layers.0.moe.experts.up", 4, 2, 2) == [1, 2] and rows("multi_token.layer.moe.router.weight", 4, 2) == [0, 1]
    assert rows("layers.1.attention.out.weight", 4, 4) is None and rows("layers.0.attention.out.weight", 4, 4) == []
    assert rows("embeddings.understanding.layers.1.mix.weight", 4, 4) == [] and rows("heads.text.weight", 4, 4) == []
    assert rows("layers.0.moe.shared.up", 1, 2, 2) == []
