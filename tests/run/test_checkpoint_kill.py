"""kill -9 at every site of a save loses nothing, and the next save leaves no torso."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import checkpoint_child as child
import pytest
import torch

from ernie5.run.checkpoint import latest_checkpoint, list_steps


def saved_after_kill(folder: Path, step: int, at: int) -> int:
    """Exit status of a process that saves this step and is killed at site number `at`."""
    return subprocess.run([sys.executable, child.__file__, str(folder), str(step), str(at)], timeout=60, check=False).returncode


def kill_at(folder: Path, step: int, at: int) -> bool:
    """The same by a fork (fast: torch is already there). Whether it was killed before it ended."""
    pid = os.fork()
    if pid == 0:
        sys.argv = ["child", str(folder), str(step), str(at)]
        child.main()
        os._exit(0)
    status = os.waitpid(pid, 0)[1]
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 warns of every fork
@pytest.mark.parametrize("step", [3, 2], ids=["a new step", "the same step again"])
def test_kill_9_at_every_site_of_a_save(tmp_path: Path, step: int) -> None:
    child.save(tmp_path / "two", 1)
    child.save(tmp_path / "two", 2)
    committed = 0
    for at in range(200):
        folder = shutil.copytree(tmp_path / "two", tmp_path / str(at))
        killed = kill_at(folder, step, at)
        found = latest_checkpoint(folder)
        assert found is not None
        new = found.step == step and found.state["salt"] == 1
        assert new or (found.step == 2 and found.state["salt"] == 0)  # old or new, and never a mixture:
        expected = child.tensors(found.step, int(found.state["salt"]))  # type: ignore[arg-type]
        assert all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
        assert new or committed == 0  # once committed, always committed
        committed += new
        child.save(folder, 4)  # the next save works and leaves no torso
        after = latest_checkpoint(folder)
        assert after is not None and after.step == 4
        assert all(path.name.startswith("step-") and (path / "COMMIT").exists() for path in folder.iterdir())
        shutil.rmtree(folder)
        if not killed:
            break
    assert not killed and at == 16 and committed == 3


def test_kill_9_in_a_process_of_its_own(tmp_path: Path) -> None:
    child.save(tmp_path, 1)
    child.save(tmp_path, 2)
    assert saved_after_kill(tmp_path, 3, 5) == -signal.SIGKILL
    assert any(path.name.startswith(".tmp-step-00000003") for path in tmp_path.iterdir())
    found = latest_checkpoint(tmp_path)
    assert found is not None and found.step == 2
    assert saved_after_kill(tmp_path, 3, 10_000) == 0
    assert list_steps(tmp_path) == [3] and [path.name for path in tmp_path.iterdir()] == ["step-00000003"]


def test_every_named_site_is_passed(tmp_path: Path) -> None:
    sites: list[str] = []
    child.save(tmp_path, 1, hook=sites.append)
    files = [*(f"tensors-0000{i}.safetensors" for i in range(3)), "state.json", "manifest.json"]
    written = [f"{kind}:{name}" for name in files for kind in ("write", "sync")]
    assert sites == ["stage", *written, "replace", "rename", "commit", "prune", "done"]
