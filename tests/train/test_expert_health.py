"""Dead and overloaded experts: counted from the load alone, told once when it has settled."""

import logging

import pytest
import torch

from ernie5.sequence import Kind
from ernie5.train.expert_health import FILL_STEPS, MAX_LINES, PATIENCE_STEPS, ExpertHealth, overload_limit

EVEN = [100.0] * 16
DEAD = [0.5, *EVEN[1:]]
OVERLOADED = [700.0, *EVEN[1:]]
SETTLED = FILL_STEPS + 1000


def load_of(*layers: list[float]) -> torch.Tensor:
    """`L R E`, spread over two kinds."""
    load = torch.zeros(len(layers), len(Kind), len(layers[0]))
    load[:, Kind.TEXT] = 0.25 * torch.tensor(layers)
    load[:, Kind.AUDIO_GENERATE] = 0.75 * torch.tensor(layers)
    return load


@pytest.fixture
def told(caplog):
    """`told(health, load, steps)` observes from a step on and returns the lines that came."""
    def watch(health, load, steps=PATIENCE_STEPS, start=SETTLED):
        caplog.clear()
        with caplog.at_level(logging.WARNING, "ernie5"):
            for step in range(start, start + steps):
                health.observe(step, load)
        return [record.getMessage() for record in caplog.records]
    return watch


def test_counts_are_a_function_of_the_load():
    load = load_of(EVEN, DEAD, OVERLOADED, [0.0, 0.0, *EVEN[2:]])
    health = ExpertHealth(num_layers=3, top_k=2)
    found = [health.observe(step, load) for step in range(1, 300)]
    assert found == [{"router/dead": 3, "router/overloaded": 1}] * 299
    assert ExpertHealth(3, 2).observe(300, load) == found[0]  # after a resume
    assert all(type(value) is int for value in found[0].values())


def test_thresholds():
    assert ExpertHealth(1, 2).observe(1, load_of([1.01, *[100.0] * 15])) == {"router/dead": 0, "router/overloaded": 0}
    assert ExpertHealth(1, 2).observe(1, load_of([0.90, *[100.0] * 15])) == {"router/dead": 1, "router/overloaded": 0}
    just_four = 4 * 15 * 100 / 12  # x = 4 * (x + 1500) / 16
    for load, count in ((just_four - 1, 0), (just_four + 1, 1)):
        assert ExpertHealth(1, 2).observe(1, load_of([load, *[100.0] * 15]))["router/overloaded"] == count


@pytest.mark.parametrize(("num_experts", "top_k", "limit"), [
    (64, 8, 4.0), (16, 2, 4.0), (10, 2, 4.0), (4, 2, 1.75), (8, 2, 3.25), (4, 4, 1.0),
])
def test_the_limit_can_be_reached(num_experts, top_k, limit):
    assert overload_limit(num_experts, top_k) == limit
    most = num_experts / top_k
    full = [most, *[(num_experts - most) / (num_experts - 1)] * (num_experts - 1)]  # every position chose the first
    assert ExpertHealth(1, top_k).observe(1, load_of(full))["router/overloaded"] == (1 if top_k < num_experts else 0)


def test_a_layer_that_never_ran_is_healthy():
    assert ExpertHealth(2, 2).observe(1, load_of(EVEN, [0.0] * 16)) == {"router/dead": 0, "router/overloaded": 0}


def test_one_line_names_layer_and_expert(told):
    lines = told(ExpertHealth(num_layers=2, top_k=2), load_of(EVEN, DEAD, OVERLOADED), steps=500)
    assert len(lines) == 2
    assert "layer 2, expert 1 has become dead" in lines[0] and "multi-token layer, expert 1 has become overloaded" in lines[1]
    assert "5.09 times an even share" in lines[1]


def test_nothing_is_told_too_early(told):
    health = ExpertHealth(1, 2)
    assert not told(health, load_of(DEAD), FILL_STEPS, start=1)
    assert not told(health, load_of(DEAD), PATIENCE_STEPS - 1, start=FILL_STEPS + 1)
    assert len(told(health, load_of(DEAD), 1, start=FILL_STEPS + PATIENCE_STEPS)) == 1


def test_a_flicker_is_no_event_and_recovery_makes_a_new_one(told):
    health = ExpertHealth(1, 2)
    for _ in range(5):
        assert not told(health, load_of(DEAD), PATIENCE_STEPS - 1) and not told(health, load_of(EVEN), 1)
    assert len(told(health, load_of(DEAD))) == 1
    assert not told(health, load_of([1.5, *EVEN[1:]])) and not told(health, load_of(DEAD), 99)  # not really recovered in between
    assert not told(health, load_of([3.0, *EVEN[1:]])) and len(told(health, load_of(DEAD))) == 1


def test_many_at_once_share_a_line(told):
    many = [0.0] * (MAX_LINES + 1) + [100.0] * (15 - MAX_LINES)
    lines = told(ExpertHealth(2, 2), load_of(many, EVEN, DEAD), steps=300)
    assert lines == [f"{MAX_LINES + 2} experts have become dead (under 1% of an even share for {PATIENCE_STEPS} steps): "
                     f"layer 1: {MAX_LINES + 1}, multi-token layer: 1"]
