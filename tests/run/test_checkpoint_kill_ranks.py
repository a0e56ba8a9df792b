"""kill -9 of one of two ranks at every site of their save, and of a process that saves beside its work: old or new, never a mixture."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from rank_threads import shares, state_of, together

from ernie5.run.background import BackgroundSave
from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, save_checkpoint
from ernie5.run.content import Snapshot
from ernie5.run.rank_parts import Patience
from ernie5.run.save import no_hook
from ernie5.run.team import Team

pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 warns of every fork


def save(team: Team, folder: Path, step: int, hook: Callable[[str], None] = no_hook, wait_s: float = 30.0) -> Path:
    pieces = shares(state_of(step), team.rank, team.size)
    return save_checkpoint(folder, step, pieces, {"step": step}, run_id="run", fingerprint="f", keep_last=1, team=team,
                           attempt=f"save-{step}", patience=Patience(wait_s), hook=hook)


def killer(folder: Path, at: int) -> Callable[[str], None]:
    """A hook that kills this process at site number `at`, sometimes with a half written file."""
    count = 0

    def hook(site: str) -> None:
        nonlocal count
        if count == at:
            if site.startswith("sync:"):
                (torn,) = folder.glob(f".tmp-*/{site[5:]}")
                os.truncate(torn, torn.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    return hook


def fork(work: Callable[[], object]) -> int:
    """Run this in a process of its own; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
            os._exit(0)
        except CheckpointError:
            os._exit(1)
        except BaseException:
            os._exit(2)
    return pid


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def check_old_or_new(folder: Path) -> int:
    """The step that is found; its tensors are those of this step."""
    found = latest_checkpoint(folder)
    assert found is not None and found.state["step"] == found.step
    expected = state_of(found.step)
    assert found.tensors.keys() == expected.keys() and all(torch.equal(found.tensors[name], tensor) for name, tensor in expected.items())
    return found.step


@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_loses_nothing(tmp_path: Path, victim: int) -> None:
    together(2, lambda team: save(team, tmp_path / "one", 1))
    committed = 0
    for at in range(60):
        folder = shutil.copytree(tmp_path / "one", tmp_path / str(at))
        hooks = [killer(folder, at) if rank == victim else no_hook for rank in range(2)]
        pids = [fork(partial(save, Team(rank, 2), folder, 2, hooks[rank], wait_s=0.7)) for rank in range(2)]
        codes = [ended(pid) for pid in pids]
        if codes == [0, 0]:
            break
        assert codes[victim] == -signal.SIGKILL and codes[1 - victim] in (0, 1), codes
        new = check_old_or_new(folder) == 2
        assert new or not committed  # once committed, always committed
        committed += new
        if codes[1 - victim] == 0:  # the survivor says that it is saved only if it is
            assert new
        together(2, lambda team, folder=folder: save(team, folder, 3))
        assert [path.name for path in folder.iterdir()] == ["step-00000003"] and check_old_or_new(folder) == 3
        shutil.rmtree(folder)
    assert codes == [0, 0] and check_old_or_new(folder) == 2
    assert at == (13 if victim == 0 else 3) and committed == (2 if victim == 0 else 0)


def test_killed_while_it_saves_beside_its_work(tmp_path: Path) -> None:
    together(1, lambda team: save(team, tmp_path / "one", 1))

    def work(folder: Path, at: int) -> None:
        weights = state_of(2)
        with BackgroundSave() as saving:
            content = Snapshot().take(shares(weights, 0, 1))
            saving.start(partial(save_checkpoint, folder, 2, content, {"step": 2}, run_id="run", fingerprint="f", keep_last=1,
                                 hook=killer(folder, at)))
            for tensor in weights.values():
                tensor.zero_()

    for at in range(40):
        folder = shutil.copytree(tmp_path / "one", tmp_path / str(at))
        code = ended(fork(partial(work, folder, at)))
        step = check_old_or_new(folder)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        shutil.rmtree(folder)
    assert code == 0 and step == 2 and at == 12
