"""One process per run folder; the dead do not hold locks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ernie5.run.lock import process_start, run_lock

HOLD = """
import sys, time
from pathlib import Path
from ernie5.run.lock import run_lock
with run_lock(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def holder(path: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_second_process_is_refused_and_a_killed_one_is_taken_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / ".lock"
    with holder(path) as process:
        with pytest.raises(ValueError, match=f"{tmp_path} is in use by process {process.pid} on ") as caught, run_lock(path):
            pass
        assert "delete" not in str(caught.value)
        process.kill()  # not reaped yet: even a zombie holds nothing
        while (Path("/proc") / str(process.pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z":
            pass
        with run_lock(path):
            assert f"process {process.pid} on" in caplog.text and "taking over" in caplog.text
            assert json.loads(path.read_text())["pid"] == os.getpid()
    with run_lock(path):
        pass


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with run_lock(tmp_path / ".lock"):
        with pytest.raises(ValueError, match=f"in use by process {os.getpid()}"), run_lock(tmp_path / ".lock"):
            pass
        with pytest.raises(ValueError, match="in use"), run_lock(tmp_path / ".lock"):  # the refused one has not freed it
            pass


def test_it_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), run_lock(tmp_path / ".lock"):
        raise KeyError
    with run_lock(tmp_path / ".lock"):
        pass


def test_a_pid_that_was_given_to_another_process_is_stale(tmp_path: Path) -> None:
    with run_lock(tmp_path / ".lock"):
        mine = json.loads((tmp_path / ".lock").read_text())
    (tmp_path / ".lock").write_text(json.dumps({**mine, "started": "another boot:1"}))
    with run_lock(tmp_path / ".lock"):
        pass


def test_another_host_is_refused_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / ".lock").write_text(json.dumps({"pid": 1, "host": "elsewhere", "started": "x"}))
    with pytest.raises(ValueError, match=r"process 1 on elsewhere.*if that machine is gone, delete .*\.lock"), run_lock(tmp_path / ".lock"):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', "5", "\0\0", '{"pid": "x", "host": 1, "started": 2}'])
def test_a_torn_lock_file_is_free(tmp_path: Path, text: str) -> None:
    (tmp_path / ".lock").write_text(text)
    with run_lock(tmp_path / ".lock"):
        pass


def test_of_many_starters_exactly_one_wins(tmp_path: Path) -> None:
    path = tmp_path / ".lock"
    path.write_text(json.dumps({"pid": 2**22 + 5, "host": os.uname().nodename, "started": "gone"}))
    processes = [subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
                 for _ in range(4)]
    losers = 0
    try:
        while losers < 3:
            losers = sum(process.poll() is not None for process in processes)
        (winner,) = [process for process in processes if process.poll() is None]
        assert winner.stdout is not None and winner.stdout.readline() == "held\n"
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def test_process_start() -> None:
    assert process_start(os.getpid()) == process_start(os.getpid()) is not None
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as later:
        assert process_start(later.pid) not in (None, process_start(os.getpid()))


@pytest.mark.parametrize(("job", "restarts", "taken"), [("7", "1", True), ("7", "0", False), ("8", "1", False), (None, None, False)])
def test_a_job_that_slurm_has_put_back_into_the_queue_goes_on_elsewhere(tmp_path, monkeypatch, job, restarts, taken) -> None:
    holder = {"pid": 1, "host": "another-node", "started": "x", "job": "7.0"}
    (tmp_path / ".lock").write_text(json.dumps(holder))
    for name, value in (("SLURM_JOB_ID", job), ("SLURM_RESTART_COUNT", restarts)):
        monkeypatch.setenv(name, value) if value is not None else monkeypatch.delenv(name, raising=False)
    if taken:
        with run_lock(tmp_path / ".lock"):
            pass
    else:
        with pytest.raises(ValueError, match="if that machine is gone, delete"), run_lock(tmp_path / ".lock"):
            pass
