"""A step whose gradient is not finite moves nothing, is logged with its samples, and training goes on."""

from dataclasses import replace

import torch
from micro_run import micro_recipe, run_micro

from ernie5.objectives.next_group import NextGroupLoss
from ernie5.train import loop


class NanInStepThree(NextGroupLoss):
    """The third step has a loss of NaN. One call is one step: `micro_rows` is off."""

    def __init__(self) -> None:
        self.step = 0

    def __call__(self, *args):
        self.step += 1
        losses = super().__call__(*args)
        return replace(losses, total=losses.total * torch.nan) if self.step == 3 else losses


def test_a_step_that_is_not_finite_moves_nothing(micro, tmp_path, monkeypatch) -> None:
    states: dict[int, dict[str, torch.Tensor]] = {}
    original = loop.train_step

    def watched(run, config, world):
        metrics = original(run, config, world)
        states[run.step] = {shard.name: shard.data.clone() for shard in run.shards()}
        return metrics

    monkeypatch.setattr(loop, "train_step", watched)
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder, f"train.objective={__name__}:NanInStepThree",
                                 "train.modality_weighting=posterior", "train.steps=4"))
    assert run.code == 0 and [line["skipped"] for line in run.metrics] == [False, False, True, False]
    skipped = run.metrics[2]
    assert skipped["sample_ids"] == list(run.sample_ids[3]) and skipped["loss/total"] is None and skipped["grad_norm"] is None
    assert all("sample_ids" not in line for line in run.metrics if not line["skipped"])
    assert all(torch.equal(states[2][name], states[3][name]) for name in states[2])  # weights, moments, biases, router load
    moved = [name for name in states[3] if not torch.equal(states[3][name], states[4][name])]
    assert any(name.startswith("model.layers.") for name in moved) and any(name.startswith("optimizer.exp_avg.") for name in moved)
    assert any(name.endswith("balance_bias") for name in moved)
    assert run.metrics[3]["tokens"] > skipped["tokens"] > run.metrics[1]["tokens"]
    means = run.saved.state["training"]["modality_weights"]
    assert all(0 < mean < 10 for mean in means.values())
