"""Forks and refusals: what may follow from a run's checkpoint, and what may not."""

import shutil

import pytest
from micro_run import micro_recipe, run_micro, train_until_death

from ernie5.config import load_config
from ernie5.recipe import Recipe
from ernie5.train.checkpoints import find_checkpoint, find_run
from ernie5.train.job import resume_run


def fork(spec: str, overrides: list[str], to):
    return run_micro(micro_recipe(to, None), lambda: resume_run(spec, overrides, to))


def test_a_fork_starts_there_and_remembers_it(micro, tmp_path) -> None:
    forked = fork(f"{micro.folder}@4", ["train.steps=6"], tmp_path / "fork")
    assert min(forked.sample_ids) == 5 and forked.metrics == micro.metrics[4:]
    assert forked.saved.state["training"] == micro.saved.state["training"]
    assert forked.saved.state["lineage"] == f"{micro.folder}@4"
    recipe = load_config(Recipe, forked.folder / "recipe.yaml")
    assert recipe.run.start_from == f"{micro.folder}@4" and recipe.run.tokenizers == str(micro.folder)
    assert micro.steps == [2, 4, 6]


def test_a_fork_of_the_latest_names_its_step_and_may_change_everything(micro, tmp_path) -> None:
    forked = fork(str(micro.folder), ["train.steps=7", "train.rows=1", "train.optimizer.weight_decay=0"], tmp_path / "fork")
    assert [line["step"] for line in forked.metrics] == [7]
    assert forked.saved.state["lineage"] == f"{micro.folder}@6"
    again = run_micro(micro_recipe(tmp_path / "fork", None), lambda: resume_run(str(tmp_path / "fork"), ["train.steps=8"]))
    assert [line["step"] for line in again.metrics] == [7, 8] and again.saved.state["lineage"] == f"{micro.folder}@6"


def test_weights_only_begins_at_step_one(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "new", micro.folder, f"run.start_from={micro.folder}@6", "train.steps=1")
    fresh = run_micro(recipe)
    assert fresh.saved.step == 1 and fresh.metrics[0]["loss/text"] < micro.metrics[0]["loss/text"]


def test_a_fork_into_a_run_is_refused(micro, tmp_path) -> None:
    with pytest.raises(ValueError, match="is a run already; choose a new folder"):
        resume_run(f"{micro.folder}@4", [], micro.folder)


def test_an_earlier_step_without_a_new_folder_is_refused(micro) -> None:
    with pytest.raises(ValueError, match="add --to NEW_DIR"):
        resume_run(f"{micro.folder}@4")


def test_a_step_that_was_never_saved_is_refused(micro, tmp_path) -> None:
    with pytest.raises(ValueError, match="committed steps in .*: 2, 4, 6"):
        resume_run(f"{micro.folder}@3", [], tmp_path / "fork")
    assert not (tmp_path / "fork").exists()


def test_a_changed_recipe_is_refused_by_key(micro, tmp_path) -> None:
    recipe = (micro.folder / "recipe.yaml").read_bytes()
    with pytest.raises(ValueError, match=r"model.dim: 32 -> 64") as refused:
        resume_run(str(micro.folder), ["model.dim=64", "train.steps=9"])
    assert "train.steps: 6" not in str(refused.value)
    assert (micro.folder / "recipe.yaml").read_bytes() == recipe


def test_other_tokenizers_are_refused_and_the_recipe_stays(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder)
    train_until_death(recipe, 3)
    other = tmp_path / "other"
    shutil.copytree(micro.folder / "tokenizers", other / "tokenizers")
    shutil.copytree(micro.folder / "data", other / "data")
    weights = next((other / "tokenizers" / "audio").glob("*.safetensors"))
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    with pytest.raises(ValueError, match="another audio tokenizer; use the tokenizers of that run"):
        resume_run(str(tmp_path / "run"), [f"run.tokenizers={other}"])
    assert load_config(Recipe, tmp_path / "run" / "recipe.yaml").run.tokenizers == str(micro.folder)


def test_a_folder_may_have_an_at_sign_in_its_name(micro, tmp_path) -> None:
    home = tmp_path / "me@host"
    home.mkdir()
    (home / "run").symlink_to(micro.folder)
    assert find_checkpoint(home / "run").step == 6 and find_checkpoint(f"{home / 'run'}@4").step == 4
    with pytest.raises(ValueError, match="must be the step of a checkpoint"):
        find_run(f"{home / 'run'}@last")
    with pytest.raises(ValueError, match="is not a run folder"):
        find_run(tmp_path / "nowhere")
