"""wandb is optional, offline runs lie in the run folder, and a tracker that fails does not stop training."""

import sys
from types import SimpleNamespace

import pytest
from micro_run import micro_recipe, run_micro


class FakeWandb:
    """Records calls; raises in the one that is named."""

    def __init__(self, fails: str = "") -> None:
        self.fails, self.begun, self.lines, self.finished = fails, {}, [], 0

    def _call(self, name: str) -> None:
        if self.fails == name:
            raise ConnectionError(f"{name} has no network")

    def init(self, **settings):
        self._call("init")
        self.begun = settings
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, numbers, step):
        self._call("log")
        self.lines.append((step, numbers))

    def finish(self):
        self.finished += 1
        self._call("finish")


def train(micro, folder, monkeypatch, fails: str = ""):
    wandb = FakeWandb(fails)
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    return run_micro(micro_recipe(folder, micro.folder, "train.steps=2", "log.wandb=offline")), wandb


def test_every_step_goes_to_wandb(micro, tmp_path, monkeypatch) -> None:
    run, wandb = train(micro, tmp_path / "run", monkeypatch)
    assert wandb.begun["mode"] == "offline" and wandb.begun["dir"] == str(run.folder) and wandb.begun["config"]["model"]["dim"] == 32
    assert [step for step, _ in wandb.lines] == [1, 2] and wandb.finished == 1
    assert all(numbers["loss/total"] == line["loss/total"] for (_, numbers), line in zip(wandb.lines, run.metrics, strict=True))


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_tracker_that_fails_does_not_stop_training(micro, tmp_path, monkeypatch, capfd, fails) -> None:
    run, wandb = train(micro, tmp_path / "run", monkeypatch, fails)
    assert run.code == 0 and len(run.metrics) == 2
    assert capfd.readouterr().err.count(f"wandb failed and is off for the rest of this run: {fails} has no network") == 1
