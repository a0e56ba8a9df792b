"""A sub-model as a run of its own: equal to the masked big model, complete, trainable, loadable without a recipe; or refused."""

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from micro_run import micro_recipe, run_micro

from ernie5.cli.main import main
from ernie5.config import load_config
from ernie5.family import export_folder
from ernie5.family.export import Exported, Wanted, export_run, load_model
from ernie5.model.elastic import SubModel
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import Checkpoint, latest_checkpoint
from ernie5.run.folder import RunFolder
from ernie5.train.evaluate import evaluate_run
from ernie5.train.evaluate_loss import heldout_batches
from ernie5.train.job import resume_run, train_recipe
from ernie5.train.load import load_run
from ernie5.train.sample import sample_run

EVEN = Wanted(5, 4, 2, keep="even")


@pytest.fixture(scope="module")
def small(deep, tmp_path_factory) -> Exported:
    """5 of 6 layers, 4 of 8 experts by usage, top-2 of 4."""
    return export_run(deep.folder, tmp_path_factory.mktemp("exported") / "small", Wanted(5, 4, 2, n=3))


def saved_in(folder: Path) -> Checkpoint:
    found = latest_checkpoint(folder / "checkpoints")
    assert found is not None
    return found


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_its_logits_are_those_of_the_masked_big_model(deep, small) -> None:
    recipe, big, generator, _ = load_run(deep.folder, device="cpu")
    (batch, *_) = heldout_batches(recipe, RunFolder(deep.folder), generator, 3)
    model = load_model(small.out)
    assert small.submodel.size(big.config) == (5, 4, 2) and not model.training
    with torch.no_grad():
        masked, alone, whole = big(batch, small.submodel), model(batch), big(batch)
        wanted, found, full = big.logits(masked), model.logits(alone), big.logits(whole)
    torch.testing.assert_close(alone.text, masked.text, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone.next_text, masked.next_text, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone.text, whole.text, atol=1e-2)
    for name in ("text", "vision", "audio"):
        assert wanted[name].numel() and not torch.equal(found[name], full[name])
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-5)


def test_it_holds_its_own_parameters_and_nothing_else(deep, small) -> None:
    model, saved, big = load_model(small.out), saved_in(small.out), saved_in(deep.folder)
    own = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert {n.removeprefix("model."): tuple(t.shape) for n, t in saved.tensors.items() if n.startswith("model.")} == own
    moments = {n.split(".", 2)[2]: tuple(t.shape) for n, t in saved.tensors.items() if n.startswith("optimizer.exp_avg.")}
    assert moments and moments.items() <= own.items()
    assert saved.tensors["router_load"].shape[0] == 6 and saved.tensors["router_load"].shape[2] == 4
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for n, p in model.named_parameters() if ".experts." in n)
    assert small.small.total == total < small.full.total and small.small.active == total - experts // 2
    assert saved.step == big.step == 2 and saved.state["training"] == big.state["training"]


def test_moments_and_experts_are_those_of_the_big_one(deep, small) -> None:
    saved, big = saved_in(small.out), saved_in(deep.folder)
    layer, experts = small.submodel.keep_layers[3], small.submodel.experts
    for slot in ("exp_avg", "exp_avg_sq"):
        kept = big.tensors[f"optimizer.{slot}.layers.{layer}.moe.experts.up"][list(experts[layer])]
        assert torch.equal(saved.tensors[f"optimizer.{slot}.layers.3.moe.experts.up"], kept) and kept.abs().sum() > 0
    assert all(sum(e < 4 for e in chosen) == 2 for chosen in experts)  # two from each of the two blocks
    model, twin = load_model(small.out), saved.tensors
    assert all(torch.equal(tensor, twin[f"model.{name}"]) for name, tensor in model.state_dict().items())


def test_it_stands_alone_and_remembers_where_it_came_from(deep, small) -> None:
    recipe, origin = load_config(Recipe, small.out / "recipe.yaml"), f"{deep.folder}@2"
    assert (recipe.run.name, recipe.run.dir, recipe.run.tokenizers, recipe.run.start_from) == ("small", str(small.out), None, None)
    assert (recipe.model.num_layers, recipe.model.num_experts, recipe.model.top_k) == (5, 4, 2)
    recipe.check()
    saved = saved_in(small.out)
    assert saved.state["lineage"] == origin and saved.state["exported"]["layers"] == list(small.submodel.keep_layers)
    assert f"exported from {origin}" in (small.out / "code.txt").read_text()
    told = json.loads((small.out / "config.json").read_text())["exported"]
    assert told["from"] == origin and told["experts"] == [list(layer) for layer in small.submodel.experts]
    assert {path.name for path in (small.out / "tokenizers").iterdir()} == {"text", "vision", "audio"}
    shards = sorted((small.out / "data" / "demo").rglob("*.tar"))
    assert shards and all(path.stat().st_nlink > 1 for path in shards)


def test_elastic_sizes_that_are_gone_are_said_to_be(small) -> None:
    elastic = load_config(Recipe, small.out / "recipe.yaml").elastic
    assert (elastic.depth.probability, elastic.depth.sizes) == (0.5, (4,)) and elastic.sparsity.sizes == (1,)
    assert (elastic.width.probability, elastic.width.sizes) == (0.0, ())
    assert small.remarks == ["elastic.depth.sizes loses 5: 4 stay",
                             "elastic.width.sizes loses 4, 6: nothing smaller is left, elastic.width is off now",
                             "elastic.sparsity.sizes loses 2: 1 stay"]


def test_training_goes_on_with_moments_and_data(deep, small, tmp_path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(small.out, folder)
    more = run_micro(micro_recipe(folder, None), lambda: resume_run(str(folder), ["train.steps=4"]))
    assert more.code == 0 and [line["step"] for line in more.metrics] == [3, 4]
    on = run_micro(micro_recipe(tmp_path / "on", None), lambda: resume_run(str(deep.folder), ["train.steps=4"], tmp_path / "on"))
    assert more.sample_ids == on.sample_ids and min(more.sample_ids) == 3
    steps = {float(t) for n, t in more.saved.tensors.items() if n.startswith("optimizer.step.") and ".heads." in n}
    assert steps == {4.0}  # two of them were the big model's
    assert more.metrics[0]["loss/total"] < 1.2 * on.metrics[0]["loss/total"]


def test_its_recipe_trains(deep, tmp_path) -> None:
    out = tmp_path / "out"
    export_run(deep.folder, out, EVEN)
    made = run_micro(load_config(Recipe, out / "recipe.yaml"), lambda: train_recipe(out / "recipe.yaml", ["train.steps=3"]))
    assert made.code == 0 and made.steps[-1] == 3 and [line["step"] for line in made.metrics] == [3]


def test_a_next_stage_starts_from_it(small, tmp_path) -> None:
    sizes = ("model.num_layers=5", "model.num_experts=4", "model.top_k=2", "train.steps=1")
    staged = run_micro(micro_recipe(tmp_path / "new", small.out, f"run.start_from={small.out}", *sizes))
    assert staged.code == 0 and staged.saved.state["lineage"] == str(small.out)


def test_it_is_sampled_evaluated_and_exported_again(small, tmp_path) -> None:
    folder = tmp_path / "moved"
    shutil.copytree(small.out, folder)
    assert evaluate_run(folder, n=1)["text_to_image"]["n"] == 1
    nothing = dict.fromkeys(("image", "video", "audio", "out", "guidance", "temperature"))
    said = sample_run(folder, "a low beep", to="text", seed=0, **nothing)
    assert isinstance(said, str)
    again = export_run(folder, tmp_path / "again", Wanted(top_k=1))
    assert again.config.num_layers == 5 and load_model(again.out).config.top_k == 1


def test_the_whole_model_is_exported_bit_for_bit(deep, tmp_path) -> None:
    made = export_run(f"{deep.folder}@2", tmp_path / "whole", Wanted())
    assert made.small == made.full and made.submodel == SubModel() and made.remarks == []
    weights, big = load_model(made.out).state_dict(), saved_in(deep.folder).tensors
    assert all(torch.equal(tensor, big[f"model.{name}"]) for name, tensor in weights.items())
    twin = saved_in(made.out).tensors
    assert twin.keys() == big.keys() and all(torch.equal(twin[name], tensor) for name, tensor in big.items())


def test_a_budget_takes_the_measured_point(deep, tmp_path) -> None:
    run = tmp_path / "run"
    shutil.copytree(deep.folder, run)
    points = [{"layers": layers, "experts": 8, "top_k": top_k, "active": active, "total": 9, "tokens_per_s": 1.0, "pareto": True,
               "loss": {"total": loss}} for layers, top_k, active, loss in ((6, 4, 100, 1.0), (5, 2, 50, 1.5), (4, 1, 30, 1.2))]
    (run / "elastic.json").write_text(json.dumps({"step": 2, "calibration": 3, "points": points}))
    made = export_run(run, tmp_path / "out", Wanted(budget="active=60%"))
    assert (made.size.layers, made.size.experts, made.size.top_k) == (4, 8, 1)
    (run / "elastic.json").write_text(json.dumps({"step": 1, "calibration": 3, "points": points}))
    with pytest.raises(ValueError, match="at step 1 and the checkpoint is that of step 2; run `ernie5 eval .*@2 --grid` first"):
        export_run(run, tmp_path / "other", Wanted(budget="active=60%"))


def test_the_command_says_what_was_made(deep, tmp_path, capsys) -> None:
    words = ["export", str(deep.folder), str(tmp_path / "out"), "--layers", "5", "--experts", "4", "--top-k", "2", "--keep", "even"]
    assert main(words) == 0
    said = capsys.readouterr().out
    for part in ("layers                            6              5", "an even subset", "layers kept: 1 ", "  layer 1     2 4 6 8",
                 "multi-token", "note: elastic.width.sizes loses 4, 6", "model.safetensors"):
        assert part in said


@pytest.mark.parametrize(("words", "message"), [
    (["--top-k", "6"], "--top-k 6 must lie between 1 and model.top_k = 4"),
    (["--experts", "2", "--top-k", "4"], "--top-k 4 is more than the 2 experts that are kept"),
    (["--layers", "3"], "--layers 3 must lie between 4 and 6: the first layer stays, and so do the 3 that emit audio codes"),
    (["--experts", "3"], "--experts 3 must be a multiple of elastic.expert_blocks = 2"),
    (["--experts", "10"], "--experts 10 must lie between 1 and model.num_experts = 8"),
    (["--budget", "active=50%"], "elastic.json is missing: a budget is looked up in the measured grid; run `ernie5 eval"),
    (["--budget", "active=50%", "--layers", "5"], "--budget chooses the sizes from the measured grid"),
    (["--budget", "active=50%", "--keep", "even"], "--budget takes a point as it was measured"),
    (["--keep", "even", "--n", "5"], "--keep even measures none"),
    (["--n", "0"], "--n 0 must be at least 1"),
])
def test_bad_input_is_refused_before_anything_is_written(deep, tmp_path, capsys, words, message) -> None:
    assert main(["export", str(deep.folder), str(tmp_path / "out"), *words]) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_an_out_in_use_is_refused_and_an_empty_one_taken(deep, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("x")
    with pytest.raises(ValueError, match="is there already and is no empty folder"):
        export_run(deep.folder, out, EVEN)
    assert files_of(out) == {"mine"}
    (out / "mine").unlink()
    export_run(deep.folder, out, EVEN)
    assert (out / "recipe.yaml").exists()


def test_it_appears_complete_or_not_at_all(deep, tmp_path, monkeypatch) -> None:
    (tmp_path / ".out-half").mkdir()  # of a process that was killed
    with monkeypatch.context() as broken, pytest.raises(OSError, match="full"):
        broken.setattr(export_folder, "write_model", lambda *args: (_ for _ in ()).throw(OSError("full")))
        export_run(deep.folder, tmp_path / "out", EVEN)
    assert not list(tmp_path.iterdir())
    with monkeypatch.context() as other_disk:
        other_disk.setattr(os, "link", lambda *args: (_ for _ in ()).throw(OSError("cross-device link")))
        export_run(deep.folder, tmp_path / "out", EVEN)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert all(path.stat().st_nlink == 1 for path in (tmp_path / "out" / "data").rglob("*.tar"))


@pytest.mark.parametrize(("change", "message"), [
    (lambda f: (f / "config.json").unlink(), "holds no exported model .*ernie5 export RUN_DIR"),
    (lambda f: (f / "config.json").write_text("{"), "config.json is not the config of an exported ernie5 model"),
    (lambda f: (f / "config.json").write_text('{"architectures": ["Other"]}'), "is not the config of an exported ernie5 model"),
    (lambda f: (f / "config.json").write_text('{"format": "other", "version": 1}'), "describes 'other', not 'ernie5-model'"),
    (lambda f: edit(f, version=2), "format version 2, this ernie5 reads up to 1"),
    (lambda f: edit(f, model={"num_layer": 5}), "num_layer"),
    (lambda f: edit(f, weights={}), "config.json is damaged: it lacks 'sha256'"),
    (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
    (lambda f: flip(f / "model.safetensors"), "model.safetensors is damaged: its SHA-256 is not the one in config.json"),
    (lambda f: (f / "model.safetensors").write_bytes(b"short"), "has 5 bytes, expected"),
    (lambda f: edit(f, model={**json.loads((f / "config.json").read_text())["model"], "num_layers": 4}), "should have the shape"),
])
def test_a_damaged_or_foreign_folder_is_not_loaded(small, tmp_path, change, message) -> None:
    for name in ("config.json", "model.safetensors"):
        shutil.copy(small.out / name, tmp_path / name)
    assert load_model(str(tmp_path)).config.num_layers == 5
    change(tmp_path)
    with pytest.raises(ValueError, match=message):
        load_model(tmp_path)


def edit(folder: Path, **values) -> None:
    body = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(body | values))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
