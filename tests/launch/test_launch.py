"""Jobs of two ranks under `ernie5 launch`, torchrun and the DeepSpeed launcher: the same run; what dies, hangs or fails; restarts."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_run import MicroRun, micro_recipe, same_run

from ernie5.config import to_yaml
from ernie5.run.lock import process_start
from ernie5.run.metrics_log import MetricsLog

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FAULTY = ("train.objective=faulty_loss:FaultyLoss", "train.steps=4")


class Jobs:
    """Starts jobs in folders of their own, with the tokenizers of the micro run."""

    def __init__(self, folder: Path, tokenizers: Path) -> None:
        self.folder, self.tokenizers = folder, tokenizers

    def recipe(self, name: str, *overrides: str) -> Path:
        path = self.folder / f"{name}.yaml"
        path.write_text(to_yaml(micro_recipe(self.folder / name, self.tokenizers, *FAULTY, *overrides)))
        return path

    def start(self, name: str, fault: str, *command: object) -> subprocess.Popen[str]:
        """`fault`: "KIND RANK CALL"."""
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, HERE))),
                       "PYTHONWARNINGS": "ignore", "FAULT": f"{fault} {self.folder / name}.fault"}
        return subprocess.Popen([sys.executable, *map(str, command)], cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def launch(self, name: str, fault: str, *words: str) -> tuple[int, str]:
        """Exit code of `ernie5 launch` and what it says from its first own line on."""
        with self.start(name, fault, "-m", "ernie5", "launch", self.recipe(name), "--processes", "2", *words) as process:
            _, said = process.communicate(timeout=200)
        return process.returncode, said[max(0, said.find("ernie5: ")):]

    def run(self, name: str) -> MicroRun:
        return MicroRun(self.folder / name, None, {1: ()})


@pytest.fixture(scope="module")
def jobs(micro, tmp_path_factory) -> Jobs:
    return Jobs(tmp_path_factory.mktemp("jobs"), micro.folder)


@pytest.fixture(scope="module")
def whole(jobs) -> MicroRun:
    """A run of two ranks to which nothing happens."""
    code, said = jobs.launch("whole", "none 0 0")
    assert code == 0, said
    logs = sorted(path.name for path in (jobs.folder / "whole" / "logs").glob("rank-*"))
    assert logs == ["rank-0.log", "rank-1.err", "rank-1.log", "rank-1.out"]
    return jobs.run("whole")


@pytest.mark.slow
def test_a_killed_rank_ends_the_job_and_a_restart_gives_the_same_run(jobs, whole) -> None:
    code, said = jobs.launch("killed", "kill 1 4", "--restarts", "1")
    assert code == 0, said
    assert said.startswith("ernie5: rank 1 of 2 failed first: it was killed by SIGKILL") and "Traceback" not in said
    assert "restart 1 of 1" in said and "going on after step 2" in said
    assert [line["step"] for line in whole.metrics] == [1, 2, 3, 4]
    same_run(jobs.run("killed"), whole)


@pytest.mark.slow
def test_the_first_error_is_on_top_and_shown_once(jobs) -> None:
    code, said = jobs.launch("raising", "raise 1 2")
    assert code == 1 and said.startswith("ernie5: rank 1 of 2 failed first: RuntimeError: the loss has gone\nTraceback"), said
    assert said.count("Traceback") == 1 and said.count("RuntimeError") == 3  # headline, source line, end of the traceback
    assert not list((jobs.folder / "raising" / "logs").glob(".failed*"))


@pytest.mark.slow
def test_a_stopped_rank_is_found_and_named(jobs) -> None:
    code, said = jobs.launch("stopped", "stop 1 3", "train.watchdog_s=4")
    assert code == 124 and said.startswith("ernie5: no step has ended for 4 s (train.watchdog_s): rank 1 hung"), said
    assert "most recent call first" in (jobs.folder / "stopped" / "logs" / "rank-0.log").read_text()
    assert process_start(int((jobs.folder / "stopped.fault").read_text().split()[1])) is None


@pytest.mark.slow
def test_a_mistake_found_by_a_rank_is_one_message_and_no_restart(jobs) -> None:
    code, said = jobs.launch("mistaken", "mistake 1 2", "--restarts", "3")
    assert (code, said) == (2, "ernie5: train.rows = 7 is no good; use 8\n")


@pytest.mark.slow
def test_a_stop_is_saved_and_not_restarted(jobs, whole) -> None:
    words = ("-m", "ernie5", "launch", jobs.recipe("asked"), "--processes", "2", "--restarts", "3")
    metrics = MetricsLog(jobs.folder / "asked" / "metrics.jsonl")
    with jobs.start("asked", "slow 0 0", *words) as process:
        while not metrics.read():
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=100)
    assert process.returncode == 75, said
    assert "same command goes on" in said and "restart" not in said and "Traceback" not in said
    stopped = jobs.run("asked")
    assert stopped.saved.step == len(stopped.metrics) < 4 and stopped.metrics == whole.metrics[: len(stopped.metrics)]


@pytest.mark.slow
def test_two_nodes_end_together_for_the_same_reason(jobs) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        master = f"127.0.0.1:{free.getsockname()[1]}"
    words = ("-m", "ernie5", "launch", jobs.recipe("nodes"), "--processes", "1", "--nodes", "2", "--master", master, "--node-rank")
    with jobs.start("nodes", "raise 1 2", *words, 0) as zero, jobs.start("nodes", "raise 1 2", *words, 1) as one:
        said = [process.communicate(timeout=200)[1] for process in (zero, one)]
    assert (zero.returncode, one.returncode) == (1, 1), said
    assert "ernie5: node 0 ends because rank 1 failed: RuntimeError: the loss has gone" in said[0] and "Traceback" not in said[0]
    assert said[1].startswith("ernie5: rank 1 of 2 failed first: RuntimeError: the loss has gone\nTraceback")


LAUNCHERS = {
    "torchrun": ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "ernie5", "train"),
    "deepspeed": ("-m", "deepspeed.launcher.runner", "--num_gpus", "2", "--master_port", "29713", "--module", "ernie5", "train"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", LAUNCHERS)
def test_the_same_recipe_gives_the_same_run_under_other_launchers(jobs, whole, name) -> None:
    if name == "deepspeed" and importlib.util.find_spec("deepspeed") is None:
        pytest.skip("deepspeed is not installed")
    with jobs.start(name, "none 0 0", *LAUNCHERS[name], jobs.recipe(name)) as process:
        _, said = process.communicate(timeout=250)
    assert process.returncode == 0, said
    same_run(jobs.run(name), whole)
