"""Placement, parameters, links and traffic of plans, where the answer can be counted by hand."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, VOCABULARY, small_model

from ernie5.model.config import ModelConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.stages import partition, weight_of_last
from ernie5.planner.content import Content
from ernie5.planner.hardware import HARDWARE, hardware_named
from ernie5.planner.links import Group, Groups, all_reduce, all_to_all, gather, send
from ernie5.planner.parameters import ParameterTable, state_bytes
from ernie5.planner.placement import Stage, passes_in_flight, stages_of, unlike
from ernie5.planner.traffic import gradient_traffic, pass_traffic
from ernie5.train.mfu import peak_flops

H100 = HARDWARE["h100"]
DEEP = dataclasses.replace(SMALL, num_layers=8)


def megatron(**degrees: int) -> ParallelPlan:
    return ParallelPlan(engine="megatron", **degrees)


def stages(plan: ParallelPlan, passes: int = 8) -> list[Stage]:
    return stages_of(plan, DEEP, VOCABULARY, passes)


def test_every_layer_is_on_one_stage() -> None:
    for plan in (megatron(pipeline=3), megatron(pipeline=2, virtual_pipeline=2), megatron(pipeline=4, virtual_pipeline=2), megatron()):
        found = stages(plan)
        assert sorted(layer for stage in found for layer in stage.layers) == list(range(8))
        assert [s.first for s in found] == [i == 0 for i in range(len(found))] and found[-1].last
        looked_at = unlike(found)
        for stage in found:
            assert any(len(s.layers) >= len(stage.layers) and s.passes >= stage.passes for s in looked_at)
    assert [stage.layers for stage in stages(megatron(pipeline=2, virtual_pipeline=2))] == [(0, 1, 4, 5, 6), (2, 3, 7)]


def test_the_heaviest_piece_is_as_light_as_it_can_be() -> None:
    assert [len(piece) for piece in partition(70, 24, 4.3)] == [3] * 23 + [1]
    assert [len(piece) for piece in partition(8, 3, 0.0)] == [2, 3, 3]  # of equal ones the latest: earlier ones keep more passes
    heavy = ModelConfig(dim=64, num_heads=4, num_kv_heads=4, expert_dim=64, top_k=1)
    layer = 4 * 64 * 64 + 3 * 64 * 64
    assert weight_of_last(heavy, VOCABULARY) == pytest.approx((2 * 64 * VOCABULARY.text + layer) / layer)


def test_passes_in_flight() -> None:
    assert [passes_in_flight(rank, 4, 1, 8) for rank in range(4)] == [4, 3, 2, 1]
    assert passes_in_flight(0, 4, 1, 2) == 2
    assert [passes_in_flight(rank, 4, 2, 8) for rank in range(4)] == [11 / 2, 9 / 2, 7 / 2, 5 / 2]
    assert passes_in_flight(0, 1, 1, 8) == 1


@pytest.mark.parametrize("codec", ["depthwise", "parallel"])
def test_stages_hold_the_whole_model(codec) -> None:
    config = dataclasses.replace(DEEP, codec=codec)
    model = small_model(config)
    table = ParameterTable(model, config, VOCABULARY)
    total = sum(p.numel() for p in model.parameters())
    assert table.total == table.held(ParallelPlan(), stages(ParallelPlan(), 1)[0]).all == total
    plan = megatron(pipeline=4, virtual_pipeline=2)
    held = [table.held(plan, stage) for stage in stages(plan)]
    twice = model.embeddings.text.weight.numel()  # the multi-token module reads the table of text ids on the last stage
    assert sum(h.all for h in held) == total + twice
    assert sum(table.levels_on(stage) for stage in stages(plan)) == VOCABULARY.num_codebooks


def test_experts_and_heads_are_cut() -> None:
    table = ParameterTable(small_model(DEEP), DEEP, VOCABULARY)
    whole, half = (table.held(plan, stages(plan, 1)[0]) for plan in (megatron(), megatron(tensor=2, expert=2)))
    assert half.expert * 2 == whole.expert
    attention = 9 * (2 * 32 * 32 + 2 * 32 * 16)  # with that of the multi-token module
    assert whole.dense - half.dense == (attention + 2 * VOCABULARY.text * 32) // 2


def test_zero_shares_states() -> None:
    table = ParameterTable(small_model(DEEP), DEEP, VOCABULARY)
    held = table.held(ParallelPlan(), stages(ParallelPlan(), 1)[0])
    all_of_it = 4.0 * held.all

    def states(passes: int = 1, **settings) -> tuple[float, ...]:
        found = state_bytes(held, ParallelPlan(**settings), 4, passes)
        return found.weights / all_of_it, found.gradients / all_of_it, found.optimizer / all_of_it

    assert states() == (1, 1, 2)
    assert states(engine="megatron", zero=1) == (1, 1, 0.5)
    assert states(engine="deepspeed", zero=2) == (1, 0.25, 0.5)
    assert states(engine="deepspeed", zero=3, passes=4) == (0.25, 0.25, 0.5)
    assert states(engine="torch", zero=2) == (1.25, 0.25, 0.5)          # slices, and gathered weights beside them
    assert states(engine="torch", zero=3, passes=4) == (0.25, 1, 0.5)   # gradients of earlier passes stay whole


def test_links() -> None:
    node, nodes, column = Group(8, 1), Group(16, 1), Group(4, 8)
    assert gather(8e9, Group(1, 1), H100).bytes == 0
    assert gather(8e9, node, H100).bytes == all_reduce(8e9, node, H100).bytes / 2 == 7e9
    assert gather(8e9, node, H100).seconds == pytest.approx(7e9 / 450e9 + 20e-6)
    assert gather(8e9, nodes, H100).seconds == pytest.approx(7.5e9 / 400e9 + 20e-6)   # eight adapters a node
    assert gather(8e9, column, H100).seconds == pytest.approx(6e9 / 50e9 + 20e-6)     # one member a node
    assert all_to_all(16e9, nodes, H100).seconds == pytest.approx(8e9 / 50e9 + 20e-6)
    assert all_to_all(8e9, node, H100).seconds == pytest.approx(7e9 / 450e9 + 20e-6)
    assert send(1e9, Group(2, 1), H100).seconds < send(1e9, Group(2, 8), H100).seconds


def test_traffic_by_hand() -> None:
    config = ModelConfig(dim=64, num_layers=2, num_heads=4, num_kv_heads=4, num_experts=8, top_k=2, expert_dim=32)
    content, stage = Content.of_text(1, 128), stages_of(ParallelPlan(), config, VOCABULARY, 1)[0]

    def sent(plan: ParallelPlan, world: int, **changed) -> dict[str, float]:
        flows = pass_traffic(plan, config, content, 4, 2, 2, stage, Groups.of(plan, world), H100)
        return {axis: flow.bytes for axis, flow in flows.items()}

    stream = 128 * 64 * 4
    assert set(sent(ParallelPlan(), 4).values()) == {0}
    # 2 layers x (2 all-reduces of the attention + 2 gathers of the experts), and the sums at both ends
    assert sent(megatron(tensor=2), 2)["tensor"] == 2 * (2 * stream + 2 * stream / 2) + 2 * stream
    assert sent(ParallelPlan(expert=4), 4)["expert"] == 2 * 4 * (2 * stream) * 3 / 4
    assert sent(megatron(context=2), 2)["context"] == 2 * 2 * (2 * stream) / 2
    assert sent(megatron(pipeline=2), 2)["pipeline"] == 0  # this stage is both ends
    held = ParameterTable(small_model(DEEP), DEEP, VOCABULARY).held(ParallelPlan(), stages(ParallelPlan(), 1)[0])
    plain, shared = (gradient_traffic(p, held, Groups.of(p, 4), H100, 3).bytes for p in (ParallelPlan(), ParallelPlan(zero=3)))
    assert plain == 2 * 4 * held.all * 3 / 4 and shared == plain / 2 * 7


def test_peak_rates_are_those_of_mfu() -> None:
    for name in ("h100", "h200", "a100", "b200"):
        assert hardware_named(name).peak == peak_flops(name.upper())
    with pytest.raises(ValueError, match="--gpu tpu is not known; use h100, h200"):
        hardware_named("tpu")


def test_the_meta_device_is_enough() -> None:
    with torch.device("meta"):
        table = ParameterTable(small_model(DEEP, random_heads=False), DEEP, VOCABULARY)
    assert table.sizes == ParameterTable(small_model(DEEP), DEEP, VOCABULARY).sizes
