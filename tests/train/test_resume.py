"""Exact resume: a run that was cut anywhere ends with the same bits as one that never was."""

import os
import signal

import pytest
from micro_run import micro_recipe, run_micro, same_run, train_until_death

from ernie5.run.signals import EXIT_STOPPED
from ernie5.train import loop
from ernie5.train.job import resume_run

UNEVEN = ("train.steps=4", "train.micro_rows=1", "train.modality_weighting=posterior", "train.ramp_from_rows=1", "train.ramp_steps=1",
          "train.stages=[{from_step: 3, length: 128}, {from_step: 4, rows: 3}]", "train.schedule.kind=cosine", "data.cache_gib=0.0001")


def metric_steps(folder) -> list[int]:
    from ernie5.run.metrics_log import MetricsLog

    return [line["step"] for line in MetricsLog(folder / "metrics.jsonl").read()]


@pytest.mark.parametrize(("step", "first"), [(2, 1), (5, 5)], ids=["before a checkpoint", "between checkpoints"])
def test_a_run_that_died_goes_on_from_its_last_checkpoint(micro, tmp_path, step, first) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder)
    train_until_death(recipe, step)
    again = run_micro(recipe)
    assert again.code == 0 and min(again.sample_ids) == first
    same_run(again, micro)


def test_what_came_after_the_last_checkpoint_leaves_the_metrics(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, "train.checkpoint_every=3")
    train_until_death(recipe, 6)
    folder = tmp_path / "run"
    assert metric_steps(folder) == [1, 2, 3, 4, 5]
    with open(folder / "metrics.jsonl", "a") as file:
        file.write('{"step": 6, "loss/tot')  # torn by the crash
    again = run_micro(recipe)
    assert again.steps == [3, 6]
    same_run(again, micro)


def test_a_damaged_checkpoint_is_passed_over(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder)
    train_until_death(recipe, 5)
    weights = tmp_path / "run" / "checkpoints" / "step-00000004" / "tensors-00000.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    again = run_micro(recipe, lambda: resume_run(str(tmp_path / "run")))
    assert min(again.sample_ids) == 3
    same_run(again, micro)


def test_accumulation_ramp_stages_and_posterior_weights(micro, tmp_path) -> None:
    whole = run_micro(micro_recipe(tmp_path / "whole", micro.folder, *UNEVEN))
    recipe = micro_recipe(tmp_path / "cut", micro.folder, *UNEVEN)
    train_until_death(recipe, 4)
    again = run_micro(recipe)
    assert whole.saved.state["training"]["modality_weights"]
    assert min(again.sample_ids) == 3
    same_run(again, whole)


def test_a_signal_finishes_the_step_and_saves(micro, tmp_path, monkeypatch, capfd) -> None:
    original = loop.train_step

    def signalled(run, config, world):
        if run.step == 3:
            os.kill(os.getpid(), signal.SIGINT)  # SIGTERM: test_crash.py
        return original(run, config, world)

    recipe = micro_recipe(tmp_path / "run", micro.folder)
    with monkeypatch.context() as patched:
        patched.setattr(loop, "train_step", signalled)
        stopped = run_micro(recipe)
    assert stopped.code == EXIT_STOPPED == 75 and stopped.steps == [2, 3]
    said = capfd.readouterr().err
    assert "SIGINT: finishing this step and saving" in said and "stopped at step 3 and saved" in said
    again = run_micro(recipe)
    assert again.code == 0 and min(again.sample_ids) == 4
    same_run(again, micro)


def test_a_complete_run_is_left_alone(micro, tmp_path) -> None:
    before = {path: path.read_bytes() for path in sorted(micro.folder.rglob("*")) if path.is_file() and path.parent.name != "logs"}
    again = run_micro(micro_recipe(micro.folder, None))
    assert again.code == 0 and not again.sample_ids
    assert {path: path.read_bytes() for path in before} == before
