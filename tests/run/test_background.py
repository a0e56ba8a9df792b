"""A save beside the work: its state is that of its step, one at a time, failures are heard, and leaving the block waits."""

from __future__ import annotations

import logging
import time
from functools import partial
from pathlib import Path
from threading import Event

import pytest
import torch

from ernie5.run.background import BackgroundSave
from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, list_steps, load_checkpoint, save_checkpoint
from ernie5.run.content import Snapshot, look_through, whole
from ernie5.run.tensor_files import is_finite


def write(folder: Path, step: int, content, hook) -> None:
    save_checkpoint(folder, step, content, {"step": step}, run_id="run", fingerprint="f", keep_last=9, hook=hook)


def test_the_snapshot_is_that_of_its_step(tmp_path: Path) -> None:
    weights = {"w": torch.randn(64, 64), "transposed": torch.randn(8, 6).T, "bf16": torch.randn(5).bfloat16(), "step": torch.tensor(1.0)}
    expected, snapshot, go = {}, Snapshot(), Event()
    with BackgroundSave() as saving:
        for step in (1, 2, 3):
            saving.wait()  # the memory of the copies is used again
            go.clear()
            expected[step] = {name: tensor.clone() for name, tensor in weights.items()}
            saving.start(partial(write, tmp_path, step, snapshot.take(whole(weights)), lambda site: go.wait(30)))
            for tensor in weights.values():
                tensor.add_(step).mul_(-1)  # training goes on before a byte is written
            go.set()
    for step in (1, 2, 3):
        found = load_checkpoint(tmp_path / f"step-{step:08d}").tensors
        assert all(torch.equal(found[name], tensor) for name, tensor in expected[step].items())


def test_copies_reuse_their_memory_and_follow_other_shapes() -> None:
    snapshot = Snapshot()
    first = snapshot.take(whole({"a": torch.ones(3), "b": torch.ones(2)}))
    second = snapshot.take(whole({"a": torch.zeros(3), "b": torch.ones(2).double()}))
    assert first[0].data.data_ptr() == second[0].data.data_ptr() and torch.equal(second[0].data, torch.zeros(3))
    assert second[1].data.dtype == torch.float64


def test_parts_are_asked_for_to_the_end_even_after_a_bad_one() -> None:
    asked = []

    def parts():
        for name, value in (("bad", float("inf")), ("good", 1.0)):
            asked.append(name)  # as if all ranks had to take part
            yield from whole({name: torch.tensor(value)})

    assert look_through(parts()).failure and asked == ["bad", "good"]


def test_one_at_a_time(tmp_path: Path) -> None:
    running, most = [], []

    def save(step: int) -> None:
        running.append(step)
        most.append(len(running))
        time.sleep(0.02)
        running.remove(step)

    with BackgroundSave() as saving:
        for step in range(4):
            saving.start(partial(save, step))
    assert most == [1] * 4 and not running


def test_failures_are_told_once_and_work_goes_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def full(site: str) -> None:
        raise OSError(28, "No space left on device")

    snapshot = Snapshot()
    with BackgroundSave() as saving:
        saving.start(partial(write, tmp_path, 1, snapshot.take(whole({"w": torch.ones(2)})), full))
        saving.wait()
        assert "step 1 could not be saved" in caplog.text and "No space left" in caplog.text
        caplog.clear()
        saving.report()
        assert caplog.text == ""
        saving.start(partial(write, tmp_path, 2, snapshot.take(whole({"w": torch.tensor(float("nan"))})), lambda site: None))
        saving.start(partial(write, tmp_path, 3, snapshot.take(whole({"w": torch.ones(2)})), lambda site: None))
        assert "step 2 is not saved: tensor w holds inf or nan" in caplog.text
        caplog.clear()

        def broken() -> None:
            raise RuntimeError("our own mistake")

        saving.start(broken)
    assert "a checkpoint could not be saved" in caplog.text and "our own mistake" in caplog.text
    assert list_steps(tmp_path) == [3]


def test_an_error_of_the_work_waits_for_the_save_alone_but_not_for_other_ranks(tmp_path: Path) -> None:
    slow = Event()

    def save() -> None:
        slow.wait(0.2)
        write(tmp_path, 1, Snapshot().take(whole({"w": torch.ones(2)})), lambda site: None)

    with pytest.raises(KeyError), BackgroundSave() as saving:
        saving.start(save)
        raise KeyError
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 1
    with pytest.raises(KeyError), BackgroundSave(team_size=2) as saving:
        saving.start(lambda: saving.stop.wait(600))
        raise KeyError
    assert saving.stop.is_set()


def test_a_failure_is_logged_as_an_error(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise CheckpointError("full")

    with BackgroundSave() as saving:
        saving.start(fail)
    assert [(record.levelno, record.getMessage()) for record in caplog.records] == [(logging.ERROR, "full")]


@pytest.mark.parametrize("at", [0, 32766, 32767, 99_999])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_inf_and_nan_are_found_in_every_piece(at: int, value: float) -> None:
    tensor = torch.ones(100_000)
    assert is_finite(tensor)
    tensor[at] = value
    assert not is_finite(tensor) and not is_finite(tensor.view(2, -1).T)
