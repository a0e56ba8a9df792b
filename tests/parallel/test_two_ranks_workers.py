"""A job on two ranks with worker processes and a packing window: killed workers, SIGTERM in the middle, and one process that goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_run import MicroRun, micro_recipe, run_micro

from ernie5.config import to_yaml
from ernie5.run.lock import process_start
from ernie5.run.metrics_log import MetricsLog

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SETTINGS = ("data.pack_window=16", "data.encode_ahead=0", "train.steps=12", "train.keep_last=20")
WORKERS = ("data.workers=2", "data.cache_gib=0")


@pytest.fixture(scope="module")
def alone(micro, tmp_path_factory) -> MicroRun:
    """One process without workers."""
    return run_micro(micro_recipe(tmp_path_factory.mktemp("alone") / "run", micro.folder, *SETTINGS))


@pytest.fixture(scope="module")
def together(micro, tmp_path_factory) -> Path:
    """Two ranks that were stopped by SIGTERM after some steps: what they noted, `run` and `said`."""
    out = tmp_path_factory.mktemp("together")
    (out / "micro.yaml").write_text(to_yaml(micro_recipe(out / "run", micro.folder, *SETTINGS, *WORKERS)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", HERE / "noted_train.py", out]
    command += [out / "micro.yaml"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    metrics = MetricsLog(out / "run" / "metrics.jsonl")
    with open(out / "said", "w") as said, subprocess.Popen(command, cwd=ROOT, env=environment, stderr=said) as process:
        while len(metrics.read()) < 5:
            assert process.poll() is None, (out / "said").read_text()
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)  # torchrun hands it on to both ranks
        process.wait(timeout=60)
    return out


def ids(out: Path, rank: int) -> list[tuple[str, ...]]:
    return [tuple(json.loads(line)) for line in (out / f"ids-{rank}.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_ranks_with_workers_train_as_one_process_without(alone, together) -> None:
    run = MicroRun(together / "run", None, {})
    steps = run.saved.step
    assert 5 <= steps < 12 and [line["step"] for line in run.metrics] == list(range(1, steps + 1))
    expected = [alone.sample_ids[step] for step in range(1, steps + 1)]
    assert ids(together, 0) == ids(together, 1) == expected
    for two, one in zip(run.metrics, alone.metrics[:steps], strict=True):
        for key in (key for key in one if key.startswith(("loss/", "data/"))):
            assert two[key] == (pytest.approx(one[key], rel=1e-6) if key.startswith("loss/") else one[key]), (one["step"], key)


@pytest.mark.slow
def test_a_killed_worker_and_a_signal_are_survived(together) -> None:
    said = (together / "said").read_text()
    assert "a data worker died (SIGKILL)" in said and "SIGTERM: finishing this step and saving" in said and "same command goes on" in said
    pids = {int(line) for rank in (0, 1) for line in (together / f"workers-{rank}").read_text().split()}
    assert len(pids) == 5  # two a rank, and the one that took the place of the killed one
    assert not any(process_start(pid) for pid in pids)


@pytest.mark.slow
def test_one_process_goes_on_where_two_were_stopped(alone, together, micro) -> None:
    stopped = MicroRun(together / "run", None, {}).saved.step
    again = run_micro(micro_recipe(together / "run", micro.folder, *SETTINGS))
    assert again.code == 0 and again.saved.step == 12
    assert again.sample_ids == {step: alone.sample_ids[step] for step in range(stopped + 1, 13)}
    for two, one in zip(again.metrics, alone.metrics, strict=True):
        assert two["loss/total"] == pytest.approx(one["loss/total"], rel=1e-6)
