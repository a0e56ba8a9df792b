"""What is saved comes back bit for bit; what must not be saved is refused; old checkpoints go when they may."""

from __future__ import annotations

import errno
import json
import logging
import os
import resource
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ernie5.run import retention
from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, list_steps, load_checkpoint, save_checkpoint
from ernie5.run.retention import discard_after


def save(folder: Path, step: int, tensors: dict[str, Tensor] | None = None, state: dict | None = None, **more: object) -> Path:
    tensors = {"w": torch.full((4, 3), float(step))} if tensors is None else tensors
    return save_checkpoint(folder, step, tensors, {"step": step} if state is None else state, run_id="run-1", fingerprint="abc", **more)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_everything_comes_back_bit_for_bit(tmp_path: Path) -> None:
    base = torch.randn(6, 8)
    tied = torch.randn(5)
    tensors = {
        "float32": base, "transposed": base.T, "view": base[1:3, ::2], "tied.a": tied, "tied.b": tied, "scalar": torch.tensor(3.5),
        "empty": torch.zeros(0, 4), "bfloat16": base.bfloat16(), "float16": base.half(), "float64": base.double(), "int64": torch.arange(5),
        "uint8": torch.get_rng_state()[:100], "bool": base > 0, "float8": base.to(torch.float8_e4m3fn),
        "complex": torch.complex(base, base), "parameter": torch.nn.Parameter(base.clone()),
        "ünï/cödé": torch.tensor([-0.0, 1e-45, torch.finfo(torch.float32).max]),
        "expanded": torch.ones(1, 3).expand(4, 3)}
    state = {"step": 3, "lr": 1e-3 / 3, "big": 2**70, "none": None, "list": [1, [True, "é\u2028"]], "nested": {"a": {"b": -0.0}}}
    path = save(tmp_path, 3, tensors, state)
    assert path == tmp_path / "step-00000003"
    assert names(path) == ["COMMIT", "manifest.json", "state.json", "tensors-00000.safetensors"]
    for checkpoint in (load_checkpoint(path), latest_checkpoint(tmp_path)):
        assert checkpoint is not None and checkpoint.step == 3 and checkpoint.state == state
        assert (checkpoint.manifest.run_id, checkpoint.manifest.fingerprint) == ("run-1", "abc")
        assert list(checkpoint.tensors) == list(tensors)
        for name, tensor in tensors.items():
            found = checkpoint.tensors[name]
            assert found.dtype == tensor.dtype and found.shape == tensor.shape
            assert bytes(found.contiguous().view(-1).view(torch.uint8).numpy()) == bytes(
                tensor.detach().clone().contiguous().view(-1).view(torch.uint8).numpy()), name
    checkpoint.tensors["tied.a"].add_(1)  # the loaded tensors are writable, and no longer share memory
    assert torch.equal(checkpoint.tensors["tied.b"], tied)


def test_tensors_are_split_over_files(tmp_path: Path) -> None:
    tensors = {f"t{i}": torch.full((100,), float(i)) for i in range(10)} | {"huge": torch.ones(1000), "last": torch.zeros(1)}
    path = save(tmp_path, 1, tensors, file_bytes=1000)
    checkpoint = load_checkpoint(path)
    files = [part.file for entry in checkpoint.manifest.tensors.values() for part in entry.parts]
    assert files == [f"tensors-{i:05d}.safetensors" for i in (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 6)]
    assert all(torch.equal(checkpoint.tensors[name], tensor) for name, tensor in tensors.items())
    assert save(tmp_path, 2, {}).is_dir() and load_checkpoint(tmp_path / "step-00000002").tensors == {}


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.complex64])
def test_inf_and_nan_are_never_saved(tmp_path: Path, value: float, dtype: torch.dtype) -> None:
    bad = torch.ones(7, 3, dtype=dtype)
    bad[4, 1] = value
    with pytest.raises(CheckpointError, match=r"step 5 is not saved: tensor optimizer\.m holds inf or nan"):
        save(tmp_path / "out", 5, {"fine": torch.ones(2), "optimizer.m": bad})
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("state", "says"), [
    ({"loss": float("nan")}, "state.loss is nan"), ({"a": [1, float("inf")]}, r"state\.a\[1\] is inf"),
    ({"a": {1: 2}}, "state.a has the key 1"),
    ({"a": torch.ones(1)}, "state.a is a Tensor"), ({"a": {"b": object()}}, "state.a.b is a object")])
def test_a_state_that_json_would_change_is_refused(tmp_path: Path, state: dict, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        save(tmp_path, 1, state=state)
    assert names(tmp_path) == []


def test_wrong_arguments(tmp_path: Path) -> None:
    for more in ({"keep_last": 0}, {"step": -1}):
        with pytest.raises(CheckpointError, match="must be >= "):
            save(tmp_path, **{"step": 1, **more})
    with pytest.raises(CheckpointError, match="__metadata__"):
        save(tmp_path, 1, {"__metadata__": torch.ones(1)})
    with pytest.raises(CheckpointError, match="must be a dense tensor"):
        save(tmp_path, 1, {"s": torch.ones(2, 2).to_sparse()})


def test_retention_order_is_by_step_and_not_by_clock(tmp_path: Path) -> None:
    for step in (5, 20, 100, 1000):
        path = save(tmp_path, step, keep_last=3)
        os.utime(path, (1e9 - step, 1e9 - step))  # the newest step has the oldest clock
    assert list_steps(tmp_path) == [20, 100, 1000]
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and newest.step == 1000
    save(tmp_path, 10**9, keep_last=1)
    assert names(tmp_path) == ["step-1000000000"]
    assert list_steps(tmp_path / "nowhere") == [] and latest_checkpoint(tmp_path / "nowhere") is None


def test_retention_never_removes_the_last_one_that_verifies(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    save(tmp_path, 1)
    save(tmp_path, 2)
    for _ in range(2):
        (tmp_path / "step-00000002" / "state.json").write_text("{}")

        def corrupt_before_purge(site: str) -> None:
            if site == "prune":
                (tmp_path / "step-00000003" / "state.json").write_text("{}")

        save(tmp_path, 3, keep_last=2, hook=corrupt_before_purge)
        assert list_steps(tmp_path) == [1, 2, 3]
        assert "none of the checkpoints [2, 3] can be read back; keeping step 1 as well" in caplog.text
        found = latest_checkpoint(tmp_path)
        assert found is not None and found.step == 1
    save(tmp_path, 4, keep_last=2)
    assert list_steps(tmp_path) == [3, 4]


def test_a_save_on_an_earlier_step_survives_its_own_retention(tmp_path: Path) -> None:
    for step in (10, 20, 30):
        save(tmp_path, step, keep_last=3)
    save(tmp_path, 15, keep_last=1)
    assert list_steps(tmp_path) == [15, 30]
    assert discard_after(tmp_path, 15) == [30] and list_steps(tmp_path) == [15]


def test_a_replaced_checkpoint_comes_back_when_its_successor_is_damaged(tmp_path: Path) -> None:
    class Crash(Exception):
        pass

    def crash(site: str) -> None:
        if site == "prune":
            raise Crash

    save(tmp_path, 1)
    with pytest.raises(Crash):
        save(tmp_path, 1, {"w": torch.zeros(2)}, hook=crash)
    assert names(tmp_path) == [".replaced-step-00000001", "step-00000001"]
    (tmp_path / "step-00000001" / "state.json").write_text("{}")
    for _ in range(2):
        found = latest_checkpoint(tmp_path)
        assert found is not None and torch.equal(found.tensors["w"], torch.ones(4, 3))
        save(tmp_path, 2)  # puts it back
        assert names(tmp_path) == ["step-00000001", "step-00000002"]
        (tmp_path / "step-00000002" / "COMMIT").unlink()


def test_a_folder_that_cannot_be_removed_does_not_stop_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                                caplog: pytest.LogCaptureFixture) -> None:
    def busy(path: Path) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    save(tmp_path, 1)
    monkeypatch.setattr(retention.shutil, "rmtree", busy)
    save(tmp_path, 2, keep_last=1)
    assert list_steps(tmp_path) == [2] and "could not be removed" in caplog.text
    monkeypatch.undo()
    save(tmp_path, 3, keep_last=1)
    assert names(tmp_path) == ["step-00000003"]


@pytest.mark.parametrize("site", ["stage", "write:tensors-00000.safetensors", "sync:tensors-00000.safetensors", "write:state.json",
                                  "write:manifest.json", "replace", "rename", "commit"])
@pytest.mark.parametrize("again", [False, True])
def test_a_full_disk_leaves_the_older_checkpoints(tmp_path: Path, site: str, again: bool) -> None:
    def full(found: str) -> None:
        if found == site:
            raise OSError(errno.ENOSPC, "No space left on device")

    save(tmp_path, 1)
    save(tmp_path, 2)
    with pytest.raises(CheckpointError, match="could not be saved in .*No space left on device; older checkpoints are untouched"):
        save(tmp_path, 2 if again else 3, {"w": torch.zeros(9)}, hook=full)
    newest = latest_checkpoint(tmp_path)
    assert newest is not None and newest.step == 2 and torch.equal(newest.tensors["w"], torch.full((4, 3), 2.0))
    assert [name for name in names(tmp_path) if not name.startswith(".replaced")] == ["step-00000001", "step-00000002"]
    save(tmp_path, 3)
    assert names(tmp_path) == ["step-00000002", "step-00000003"]


def test_a_real_file_size_limit(tmp_path: Path) -> None:
    save(tmp_path, 1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(CheckpointError, match="File too large"):
            save(tmp_path, 2, {"w": torch.zeros(100_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert names(tmp_path) == ["step-00000001"]


def test_secrets_stay_out_of_the_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef-very-secret")
    path = save(tmp_path, 1, state={"env": "x 0123456789abcdef-very-secret", "hf_token": "short", "url": "https://me:pw12@host/x", "n": 1})
    text = (path / "state.json").read_text()
    assert "very-secret" not in text and "short" not in text and "pw12" not in text
    assert load_checkpoint(path).state == {"env": "x ***", "hf_token": "***", "url": "https://***@host/x", "n": 1}
    assert "state.env holds a secret" in caplog.text and "very-secret" not in caplog.text


def test_a_later_format_is_refused_and_not_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, 1)
    with monkeypatch.context() as patch:
        patch.setattr("ernie5.run.manifest.VERSION", 3)
        save(tmp_path, 2)
    with pytest.raises(CheckpointError, match="has format version 3, this ernie5 reads up to 2"):
        latest_checkpoint(tmp_path)


def test_checkpoints_of_the_first_format_still_load() -> None:
    # written by ernie5 0.1.0; one such folder is added for every format, and none is ever written again
    checkpoint = load_checkpoint(Path(__file__).parent / "checkpoint_formats" / "v1" / "step-00000007")
    assert checkpoint.step == 7 and checkpoint.state == {"samples": 224, "mixture": ["text", "image"]}
    assert torch.equal(checkpoint.tensors["weight"], torch.arange(6.0).reshape(2, 3))
    assert checkpoint.tensors["bias"].dtype == torch.bfloat16


def test_checkpoints_of_the_second_format_still_load() -> None:
    # written by two processes, each its half
    checkpoint = load_checkpoint(Path(__file__).parent / "checkpoint_formats" / "v2" / "step-00000007")
    assert checkpoint.step == 7 and checkpoint.state == {"samples": 224, "mixture": ["text", "image"]}
    assert torch.equal(checkpoint.tensors["weight"], torch.arange(6.0).reshape(2, 3))
    assert torch.equal(checkpoint.read("weight", (0, 1), (2, 2)), torch.tensor([[1.0, 2.0], [4.0, 5.0]]))
    assert torch.equal(checkpoint.tensors["bias"], torch.arange(3).bfloat16())
    assert {part.file for part in checkpoint.manifest.tensors["weight"].parts} == {
        "tensors-00000-00000.safetensors", "tensors-00001-00000.safetensors"}


def test_missing_path_says_which_steps_there_are(tmp_path: Path) -> None:
    save(tmp_path, 4)
    with pytest.raises(CheckpointError, match="COMMIT is missing; committed steps in .*: 4"):
        load_checkpoint(tmp_path / "step-00000005")


def test_the_manifest_is_readable_by_people_and_says_what_is_inside(tmp_path: Path) -> None:
    body = json.loads((save(tmp_path, 1) / "manifest.json").read_text())
    assert body["format"] == "ernie5-checkpoint" and body["version"] == 2 and body["step"] == 1
    part = {"file": "tensors-00000.safetensors", "key": "w", "at": [0, 0], "shape": [4, 3]}
    assert body["tensors"] == {"w": {"shape": [4, 3], "dtype": "float32", "parts": [part]}}
    assert set(body["files"]) == {"state.json", "tensors-00000.safetensors"}


def test_nothing_is_logged_when_all_is_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for step in (1, 2, 3, 3):
        save(tmp_path, step)
        latest_checkpoint(tmp_path)
    assert caplog.text == ""
