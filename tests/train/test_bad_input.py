"""What users and disks do to a run: one clear message, and nothing already saved is lost."""

import errno
import json
import os
import shutil
from pathlib import Path

import pytest
from micro_run import micro_recipe, run_micro, train_until_death

from ernie5.cli.main import main
from ernie5.config import to_yaml
from ernie5.data_pipelines.sources import ShardSource
from ernie5.run import save as checkpoint_files
from ernie5.run.lock import run_lock


@pytest.fixture
def shards(micro, tmp_path) -> Path:
    """A copy of the demo world's pictures and texts, to be damaged."""
    folder = tmp_path / "shards"
    folder.mkdir()
    for path in (*(micro.folder / "data/demo/train").glob("image-*"), *(micro.folder / "data/demo/train").glob("text-*")):
        shutil.copy(path, folder)
    return folder


def sources(shards: Path) -> str:
    return f"data.sources={{image: {{path: {shards}/image-*.tar}}, text: {{path: {shards}/text-*.tar}}}}"


def damage(shards: Path, kind: str, indices: list[int]) -> list[str]:
    """Flip a byte of these samples; their names in the quarantine."""
    source = ShardSource(kind, shards / f"{kind}-000000.tar")
    data = bytearray(source.shards[0].read_bytes())
    for index in indices:
        _, entries = source._files.sample(0, index)
        data[entries[-1].offset] ^= 255
    source.shards[0].write_bytes(data)
    return [f"{kind}/{index}" for index in indices]


def quarantined(folder: Path) -> set[str]:
    lines = (folder / "logs" / "quarantine.jsonl").read_text().splitlines()
    return {json.loads(line)["sample"] for line in lines}


def test_damaged_samples_are_skipped_within_the_tolerance(micro, shards, tmp_path) -> None:
    bad = damage(shards, "image", [1, 5, 11])
    recipe = micro_recipe(tmp_path / "run", micro.folder, sources(shards), "data.tolerance=0.5", "train.steps=3", "train.rows=6")
    run = run_micro(recipe)
    assert run.code == 0 and len(run.metrics) == 3 and not any(line["skipped"] for line in run.metrics)
    assert quarantined(run.folder) == set(bad)


def test_more_damage_than_tolerated_ends_the_run_with_its_checkpoints(micro, shards, tmp_path) -> None:
    damage(shards, "image", list(range(0, 24, 3)))
    recipe = micro_recipe(tmp_path / "run", micro.folder, sources(shards), "train.steps=99", "train.rows=8", "train.checkpoint_every=1")
    with pytest.raises(ValueError, match="samples cannot be used, more than data.tolerance = 0.01 allows; .*quarantine.jsonl names each"):
        run_micro(recipe)
    assert list((tmp_path / "run" / "checkpoints").glob("step-*/COMMIT"))


def test_documents_that_are_cut_are_announced_once(micro, tmp_path, capfd) -> None:
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder, "train.length=24", "train.steps=2"))
    assert run.code == 0 and capfd.readouterr().err.count("documents are cut at train.length = 24") == 1


def test_changed_and_missing_shards_are_refused_by_name(micro, shards, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, sources(shards))
    train_until_death(recipe, 3)
    shutil.copy(shards / "text-000000.tar", shards / "text-000001.tar")
    with pytest.raises(ValueError, match="shard 'text-000001' of source 'text' is new since this run began"):
        run_micro(recipe)
    for path in shards.glob("text-000000*"):
        path.unlink()  # the copy has no index and stays
    with pytest.raises(ValueError, match="shard 'text-000000' of source 'text' is missing since this run began"):
        run_micro(recipe)
    for path in shards.glob("text-*"):
        path.unlink()
    for path in (micro.folder / "data/demo/heldout").glob("text-*"):
        shutil.copy(path, shards)
    with pytest.raises(ValueError, match="shard 'text-000000' of source 'text' was changed since this run began"):
        run_micro(recipe)


def test_a_full_disk_costs_one_checkpoint_and_not_the_run(micro, tmp_path, monkeypatch, capfd) -> None:
    original = checkpoint_files._write_part

    def stage(staging, *args):
        if "step-00000004" in staging.name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return original(staging, *args)

    monkeypatch.setattr(checkpoint_files, "_write_part", stage)
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder))
    assert run.code == 0 and run.steps == [2, 6] and run.metrics == micro.metrics
    assert "step 4 could not be saved" in capfd.readouterr().err


def test_a_disk_that_stays_full_is_no_complete_run(micro, tmp_path, monkeypatch) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder, "train.steps=2")

    def stage(staging, *args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full, pytest.raises(ValueError, match="step 2 is done but could not be saved .* make room and run"):
        full.setattr(checkpoint_files, "_write_part", stage)
        run_micro(recipe)
    assert run_micro(recipe).steps == [2]


def command(capfd, recipe: Path, *overrides: str) -> tuple[int, str]:
    code = main(["train", str(recipe), *overrides])
    return code, capfd.readouterr().err


def test_mistakes_get_one_message_and_exit_code_2(micro, tmp_path, capfd) -> None:
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(to_yaml(micro_recipe(tmp_path / "run", micro.folder)))
    for overrides, message in (
        (["train.stepz=3"], "train.stepz"),
        (["train.rows=many"], "train.rows"),
        (["data.sources.image.path=/nowhere/x.tar"], "source 'image' has no shards at /nowhere/x.tar"),
        (["run.tokenizers=/nowhere"], "run.tokenizers = /nowhere must be the folder of a run"),
        (["train.device=gpu"], "train.device = gpu is not known; use auto, cpu or cuda"),
        (["train.objective=nowhere:Loss"], "there is no module nowhere"),
        (["parallel.tensor=2"], "use parallel.tensor = 1"),
        (["model.num_layers=2"], "model.num_layers = 2"),
    ):
        code, said = command(capfd, recipe, f"run.dir={tmp_path / 'other'}", *overrides)
        assert code == 2 and message in said and "Traceback" not in said, said
    run = run_micro(micro_recipe(tmp_path / "other", micro.folder, "train.steps=1"))  # the mistakes left nothing behind
    assert run.code == 0 and run.steps == [1]
    (tmp_path / "bad.yaml").write_text("train: {steps: 3\n")
    code, said = command(capfd, tmp_path / "bad.yaml")
    assert code == 2 and "bad.yaml" in said
    code, said = command(capfd, tmp_path / "absent.yaml")
    assert code == 2 and "absent.yaml" in said


def test_two_jobs_on_one_folder(micro, capfd, tmp_path) -> None:
    recipe = tmp_path / "micro.yaml"
    recipe.write_text(to_yaml(micro_recipe(tmp_path / "run", micro.folder)))
    (tmp_path / "run").mkdir()
    with run_lock(tmp_path / "run" / ".lock"):
        code, said = command(capfd, recipe)
    assert code == 2 and f"is in use by process {os.getpid()}" in said
    assert not (tmp_path / "run" / "metrics.jsonl").exists()
