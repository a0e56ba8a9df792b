"""The batch script: what it asks for, how it is submitted, and what it does (run by bash, with stand-ins for Slurm's commands)."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_run import MICRO

from ernie5.cli.main import main
from ernie5.config import to_yaml
from ernie5.launch.slurm import SlurmConfig, batch_script

ASKED = ("--slurm", "--nodes", "2", "--processes", "1", "--partition", "gpu", "--account", "lab", "--time", "2:00:00", "--cpus", "4")


def command(folder: Path, name: str, text: str) -> None:
    """An executable script in `folder`/bin."""
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / "bin" / name).chmod(0o755)


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """The working folder, with micro.yaml."""
    (tmp_path / "micro.yaml").write_text(to_yaml(MICRO))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    return tmp_path


def test_print_shows_the_script_and_writes_nothing(here, capsys) -> None:
    assert main(["launch", "micro.yaml", *ASKED, "--print", "--restarts", "2", "train.steps=9"]) == 0
    script = capsys.readouterr().out
    for line in ("job-name=ernie5-micro", "nodes=2", "ntasks-per-node=1", "gpus-per-node=1", "cpus-per-task=4", "partition=gpu",
                 "account=lab", "time=2:00:00", f"output={here}/runs/micro/logs/slurm-%j.log", "requeue", "signal=B:USR1@300"):
        assert f"#SBATCH --{line}\n" in script
    assert f"{sys.executable} -m ernie5 launch {here}/micro.yaml train.steps=9 --processes 1 --nodes 2 --master" in script
    assert "seq 0 2" in script and not (here / "runs").exists()


def test_the_script_is_kept_and_submitted(here, capsys) -> None:
    command(here, "sbatch", 'cat "$1" > seen; echo "Submitted batch job 7"')
    assert main(["launch", "micro.yaml", *ASKED, "train.device=cpu"]) == 0
    assert capsys.readouterr().out == "Submitted batch job 7\n"
    assert (here / "seen").read_text() == (here / "runs/micro/slurm.sh").read_text()
    assert "gpus-per-node" not in (here / "seen").read_text()  # train.device=cpu
    command(here, "sbatch", 'echo "invalid partition" >&2; exit 1')
    assert main(["launch", "micro.yaml", *ASKED]) == 2 and "invalid partition" in capsys.readouterr().err
    (here / "bin" / "sbatch").unlink()
    assert main(["launch", "micro.yaml", *ASKED]) == 2 and "there is no sbatch on this machine; run `sbatch " in capsys.readouterr().err


@pytest.mark.parametrize(("words", "message"), [
    (["--processes", "4", "train.rows=6"], "must divide the 6 rows of a step"), (["--processes", "0"], "--processes 0 must be at least 1"),
    (["--restarts", "-1"], "--restarts -1 must be at least 0"), (["--print"], "add --slurm"),
    (["--nodes", "2"], "needs --master HOST:PORT"), (["train.watchdog_s=-1"], "train.watchdog_s = -1"),
    (["--nodes", "2", "--master", "a:1", "--node-rank", "2"], "needs --node-rank 0 to 1"),
    (["--slurm", "--time", "2 hours"], "must be one word"),
    (["--nodes", "2", "--master", "a:1", "--node-rank", "0", "--restarts", "1"], "use --slurm"),
    (["--slurm", "run.tokenizers=https://me:secretpassword@x"], "holds a secret"),
])
def test_mistakes_are_named_before_anything_is_written(here, words, message, capsys) -> None:
    assert main(["launch", "micro.yaml", *words]) == 2
    assert message in capsys.readouterr().err and not (here / "runs").exists()


def start(folder: Path, codes: str, restarts: int) -> subprocess.Popen:
    """The script, where the n-th srun ends with the n-th of `codes`; it counts itself in `srun` and waits while `hold` is there."""
    command(folder, "scontrol", 'if [ "$1" = show ]; then echo node7; echo node8; else echo "$@" >> requeued; fi')
    command(folder, "srun", f"""echo "$@" >> srun
trap 'rm -f hold; exit 75' USR1
while [ -e hold ]; do sleep 0.05; done
set -- {codes}; shift $(($(wc -l < srun) - 1)); exit $1""")
    (folder / "job.sh").write_text(batch_script(["a recipe.yaml"], SlurmConfig(2, 8, 8), "x", folder, folder, restarts))
    return subprocess.Popen(["bash", "job.sh"], cwd=folder, env={**os.environ, "SLURM_JOB_ID": "20001", "SLURM_JOB_NODELIST": "node[7-8]"})


@pytest.mark.parametrize(("codes", "restarts", "runs", "code", "requeued"), [
    ("0", 3, 1, 0, False), ("137 1 0", 3, 3, 0, False), ("124 1 0", 1, 2, 1, False), ("2", 3, 1, 2, False), ("75", 3, 1, 0, True),
    ("1 75", 3, 2, 0, True),
])
def test_crashes_are_run_again_mistakes_are_not_and_stops_are_requeued(here, codes, restarts, runs, code, requeued) -> None:
    assert start(here, codes, restarts).wait(timeout=60) == code
    lines = (here / "srun").read_text().splitlines()
    assert len(lines) == runs
    assert lines[0] == ("--kill-on-bad-exit=1 " + f"{sys.executable} -m ernie5 launch a recipe.yaml --processes 8 --nodes 2 "
                        "--master node7:20001")
    assert (here / "requeued").exists() == requeued


def test_a_warning_reaches_the_launchers_and_the_job_is_requeued(here) -> None:
    (here / "hold").touch()
    with start(here, "0", 3) as job:
        while not (here / "srun").exists() or not (here / "srun").read_text():
            time.sleep(0.02)
        time.sleep(0.3)  # the trap of the stand-in
        job.send_signal(signal.SIGUSR1)
        assert job.wait(timeout=60) == 0
    assert (here / "requeued").read_text() == "requeue 20001\n" and len((here / "srun").read_text().splitlines()) == 1
