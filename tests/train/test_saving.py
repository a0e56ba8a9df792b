"""Saves beside the steps: the same run as with saves in between, failures that training outlives, and evaluation of a model in parts."""

import errno
import json
import logging
from pathlib import Path

from micro_run import micro_recipe, run_micro, same_run, train_until_death

from ernie5.run.checkpoint import load_checkpoint, save_checkpoint
from ernie5.train import job, saving

AT_ONCE = "train.async_checkpoint=false"


def test_a_run_that_saves_at_once_is_the_same_run(micro, tmp_path) -> None:
    at_once = run_micro(micro_recipe(tmp_path / "run", micro.folder, AT_ONCE))
    same_run(at_once, micro)
    assert at_once.steps == micro.steps == [2, 4, 6]
    for step in (2, 4):  # the copies are those of their step, though training went on
        one, other = (load_checkpoint(run.folder / "checkpoints" / f"step-{step:08d}") for run in (at_once, micro))
        assert one.state["training"] == other.state["training"] and one.tensors.keys() == other.tensors.keys()
        files = [{name: entry for name, entry in found.manifest.files.items() if name != "state.json"} for found in (one, other)]
        assert files[0] == files[1]  # bit for bit


def test_a_run_may_change_how_it_saves(micro, tmp_path) -> None:
    train_until_death(micro_recipe(tmp_path / "run", micro.folder), 3)
    again = run_micro(micro_recipe(tmp_path / "run", micro.folder, AT_ONCE))
    assert min(again.sample_ids) == 3
    same_run(again, micro)


def test_a_full_disk_in_the_background_is_told_and_training_goes_on(micro, tmp_path, monkeypatch, caplog) -> None:
    def save(folder: Path, step: int, *args, **kwargs) -> Path:
        def full(site: str) -> None:
            if step == 2 and site == "write:state.json":
                raise OSError(errno.ENOSPC, "No space left on device")

        return save_checkpoint(folder, step, *args, hook=full, **kwargs)

    monkeypatch.setattr(saving, "save_checkpoint", save)
    monkeypatch.setattr(logging.getLogger("ernie5"), "propagate", True)
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder))
    assert run.code == 0 and run.steps == [4, 6]
    assert run.metrics == micro.metrics
    assert "step 2 could not be saved" in (run.folder / "logs" / "rank-0.log").read_text()


def in_parts(monkeypatch) -> None:
    """Runs begin with an engine that says that no process holds the whole model."""
    original = job.build_training

    def built(*arguments):
        run = original(*arguments)
        run.engine.whole_model = False
        return run

    monkeypatch.setattr(job, "build_training", built)


def evaluations(folder: Path) -> dict[str, dict]:
    return {path.name: json.loads(path.read_text()) for path in sorted((folder / "samples").glob("eval-*.json"))}


def test_a_model_in_parts_is_evaluated_from_its_checkpoint(micro, tmp_path, monkeypatch) -> None:
    words = ("train.steps=5", "train.evaluate_every=3", "train.checkpoint_every=2", "evaluate.media=false")
    whole = run_micro(micro_recipe(tmp_path / "whole", micro.folder, *words))
    in_parts(monkeypatch)
    parts = run_micro(micro_recipe(tmp_path / "parts", micro.folder, *words))
    assert whole.steps == [2, 4, 5] and parts.steps == [2, 3, 4, 5]  # step 3 was saved to be looked at
    found = evaluations(parts.folder)
    assert found == evaluations(whole.folder) and list(found) == ["eval-00000003.json"] and found["eval-00000003.json"]["loss"]["total"] > 0
    assert parts.metrics == whole.metrics


def test_a_checkpoint_that_is_there_is_not_saved_again_to_be_evaluated(micro, tmp_path, monkeypatch) -> None:
    in_parts(monkeypatch)
    saved = []
    original = saving.Saving.save
    monkeypatch.setattr(saving.Saving, "save", lambda self, run: (saved.append(run.step), original(self, run))[1])
    words = ("train.steps=4", "train.evaluate_every=2", "train.checkpoint_every=2", "evaluate.media=false")
    recipe = micro_recipe(tmp_path / "run", micro.folder, *words)
    assert run_micro(recipe, lambda: job.run_job(recipe)).code == 0
    assert saved == [2, 4] and list(evaluations(tmp_path / "run")) == ["eval-00000002.json"]
