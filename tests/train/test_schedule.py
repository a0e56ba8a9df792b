"""Learning rates, batch ramp and stages."""

from dataclasses import replace

import pytest

from ernie5.train.schedule import ScheduleConfig, learning_rate, rows_at
from ernie5.train.steps import StageConfig, TrainConfig, shape_of_step


def test_wsd_warms_up_stays_and_decays() -> None:
    config = ScheduleConfig(kind="wsd", lr=1.0, warmup_steps=10, decay=0.5, lr_end=0.1)
    rates = [learning_rate(config, step, 100) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1) and rates[9:50] == [1.0] * 41
    assert rates[50:] == sorted(rates[50:], reverse=True) and rates[-1] == pytest.approx(0.1)


def test_cosine_ends_at_its_floor() -> None:
    config = ScheduleConfig(kind="cosine", lr=2.0, warmup_steps=0, lr_end=0.1)
    assert learning_rate(config, 1, 100) == 2.0
    assert learning_rate(config, 51, 100) == pytest.approx(1.1)
    assert learning_rate(config, 101, 100) == pytest.approx(0.2)


def test_batch_ramp_grows_in_whole_units() -> None:
    rows = [rows_at(step, 16, 4, 10, unit=4) for step in range(1, 13)]
    assert rows == [4, 4, 4, 4, 8, 8, 8, 12, 12, 12, 16, 16]


def test_stages_change_length_and_rows() -> None:
    config = TrainConfig(rows=8, length=128, stages=(StageConfig(from_step=5, length=256, rows=4, weights={"text": 0.0}),))
    assert shape_of_step(config, 4, 1) == (8, 128, 8, (), 1, None, None)
    assert shape_of_step(config, 5, 2) == (4, 256, 2, (("text", 0.0),), 1, None, None)
    with pytest.raises(ValueError, match="train.stages"):
        replace(config, stages=(StageConfig(5), StageConfig(2))).check()
