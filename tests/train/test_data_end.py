"""Runs whose data end or change: epochs that are given, and a resume with other weights and one more source."""

import json
import shutil
from functools import partial

import pytest
import torch
from html_page import Page
from micro_run import Died, dies_in_step, micro_recipe, run_micro, same_run, train_until_death
from tiny_world import WIDTHS, batch, small_model

from ernie5.ablate.state import is_finished
from ernie5.config import load_config, to_plain
from ernie5.data_pipelines.collate import collate
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.torch_engine import TorchEngine
from ernie5.parallel.world import World
from ernie5.recipe import Recipe
from ernie5.report.report import write_report
from ernie5.run.ended import ended_step
from ernie5.run.folder import RunFolder
from ernie5.train.job import check_recipe, resume_run
from ernie5.train.optimizer import OptimizerConfig, make_optimizer
from ernie5.train.training import Objective

ONCE = ("data.sources={image: {path: 'demo:train/image', epochs: 1}, text: {path: 'demo:train/text', epochs: 0.5}}",
        "train.steps=50", "train.checkpoint_every=2", "train.rows=2")
NEW = "data.sources.more={path: 'demo:train/document', weight: 2}"


@pytest.fixture(scope="module")
def ended(micro, tmp_path_factory):
    return run_micro(micro_recipe(tmp_path_factory.mktemp("ended") / "run", micro.folder, *ONCE))


def test_training_ends_with_its_data(ended, capfd) -> None:
    seen = [name for ids in ended.sample_ids.values() for name in ids]
    assert ended.code == 0 and len(set(seen)) == len(seen) == 24 + 12
    assert not any(line["skipped"] for line in ended.metrics)
    last = ended.metrics[-1]
    assert last["step"] == ended.saved.step < 50 and last["data/image"] == 24 and last["data/text"] == 12
    assert sum(n for name, n in last.items() if "->" in name) == 36 and last["data/text->text"] == 12
    again = run_micro(micro_recipe(ended.folder, None), lambda: resume_run(str(ended.folder)))
    assert again.code == 0 and not again.sample_ids and again.metrics == ended.metrics
    assert "training ends after step" in capfd.readouterr().err


def test_a_run_that_ended_with_its_data_is_complete_until_it_goes_on(ended, tmp_path, capfd) -> None:
    folder, step = RunFolder(shutil.copytree(ended.folder, tmp_path / "run")), ended.saved.step
    assert ended_step(folder) == step and not is_finished(folder, 50)
    (folder.path / "eval.json").write_text(json.dumps({"step": step}))
    assert is_finished(folder, 50) and not is_finished(RunFolder(tmp_path / "none"), 50)
    page = Page(write_report(folder.path).read_text()).text
    assert f"complete: its data ended at step {step} of 50" in page and "unfinished" not in page
    assert f"ernie5 resume {folder.path} data.sources.NAME.epochs=MORE --to NEW_DIR" in page

    with dies_in_step(step + 1), pytest.raises(Died):
        run_micro(micro_recipe(folder.path, None), lambda: resume_run(str(folder.path), ["data.sources.text.epochs=1"]))
    assert ended_step(folder) is None and not is_finished(folder, 50)
    page = Page(write_report(folder.path).read_text()).text
    assert f"unfinished: step {step} of 50" in page and "complete" not in page
    again = run_micro(micro_recipe(folder.path, None), lambda: resume_run(str(folder.path)))
    assert again.code == 0 and ended_step(folder) == again.saved.step > step and not is_finished(folder, 50)  # not evaluated again


def test_a_run_that_takes_all_its_steps_did_not_end_with_its_data(micro) -> None:
    assert ended_step(RunFolder(micro.folder)) is None


def test_a_run_that_died_before_the_end_ends_alike(micro, ended, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, *ONCE, "data.workers=1", "data.encode_ahead=0")
    train_until_death(recipe, 4)
    same_run(run_micro(recipe), ended)


def test_weights_may_change_and_a_source_may_join(micro, tmp_path) -> None:
    train_until_death(micro_recipe(tmp_path / "run", micro.folder), 3)
    changes = [NEW, "data.sources.image.weight=0", "data.sources.text.epochs=3", "train.steps=12", "data.temperature=2"]
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder), lambda: resume_run(str(tmp_path / "run"), changes))
    assert run.code == 0 and run.saved.step == 12 and run.metrics[-1]["data/more"] > 2 and "data/more" not in run.metrics[1]
    assert run.metrics[-1]["data/image"] == run.metrics[1]["data/image"]
    assert "more" in run.saved.state["sources"]


def test_a_rank_whose_rows_are_all_empty_trains_on_nothing() -> None:
    model, packed = small_model(), batch([["text_to_image"], ["mixed"]], length=160)
    nothing, losses = collate([[], []], 160, WIDTHS), []
    for parts in ([packed], [packed, nothing]):
        engine = TorchEngine(model, partial(make_optimizer, config=OptimizerConfig()), World(0, 1, torch.device("cpu")))
        model.zero_grad()
        objective = Objective(NextGroupLoss(), model)
        objective.begin(sum((TargetCounts.of(p) for p in parts), start=TargetCounts(0.0, 0.0, 0.0, 0.0)), Weights())
        losses.append(engine.forward_backward([MicroBatch(p) for p in parts], objective))
        losses.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
    assert torch.equal(losses[0], losses[2]) and torch.equal(losses[1], losses[3]) and losses[1].abs().sum() > 0


@pytest.mark.parametrize("change", ["data.sources.image.path=elsewhere", "data.sources.image.fields=[png]", "data.roles.image=0.1"])
def test_what_samples_are_made_of_may_not_change(micro, change) -> None:
    saved = micro_recipe(micro.folder, None)
    now = load_config(Recipe, to_plain(saved), [NEW, change])
    with pytest.raises(ValueError, match=change.partition("=")[0]) as refused:
        check_recipe(saved, now, begun=True)
    assert "data.sources.more" not in str(refused.value)


def test_no_source_may_leave(micro) -> None:
    saved = micro_recipe(micro.folder, None)
    with pytest.raises(ValueError, match=r"data.sources.text.path: 'demo:train/text' -> \(absent\)"):
        check_recipe(saved, micro_recipe(micro.folder, None, "data.sources={image: {path: 'demo:train/image'}}"), begun=True)


def test_stages_and_numbers_are_checked(micro) -> None:
    for change, said in (("train.stages=[{from_step: 2, weights: {imag: 1}}]", "names 'imag', which is no source"),
                         ("train.stages=[{from_step: 2, temperature: 0}]", r"train.stages\[0\].temperature = 0"),
                         ("data.workers=-1", "data.workers = -1"), ("data.temperature=-2", "data.temperature = -2")):
        with pytest.raises(ValueError, match=said):
            micro_recipe(micro.folder, None, change).check()


def test_a_model_that_has_not_begun_may_change_and_its_tokenizers_may_not(micro):
    saved = micro_recipe(micro.folder, None)
    check_recipe(saved, micro_recipe(micro.folder, None, "model.num_experts=8", "train.rows=4", "data.text_dropout=0.1"), begun=False)
    with pytest.raises(ValueError, match="model.num_experts"):
        check_recipe(saved, micro_recipe(micro.folder, None, "model.num_experts=8"), begun=True)
    with pytest.raises(ValueError, match="tokenizers.vision.bits"):
        check_recipe(saved, micro_recipe(micro.folder, None, "tokenizers.vision.bits=4"), begun=False)
