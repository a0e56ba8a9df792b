"""Real processes: killed in the middle of a save, and asked to stop from outside."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_run import micro_recipe, run_micro, same_run

from ernie5.cli.main import main
from ernie5.config import to_yaml
from ernie5.run.metrics_log import MetricsLog

ROOT = Path(__file__).parents[2]
CRASHING = str(Path(__file__).with_name("crashing_train.py"))
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
SITES = ("sync:tensors-00000.safetensors", "commit")


@pytest.fixture(scope="module")
def killed(micro, tmp_path_factory) -> Path:
    """A folder with one killed run for every site."""
    folder = tmp_path_factory.mktemp("killed")
    (folder / "micro.yaml").write_text(to_yaml(micro_recipe(folder, micro.folder)))
    done = subprocess.run([sys.executable, CRASHING, folder / "micro.yaml", folder, *SITES], cwd=ROOT, env=ENVIRONMENT,
                          capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [f"{site} {-signal.SIGKILL}" for site in SITES]
    return folder


@pytest.mark.parametrize("site", SITES)
def test_killed_in_the_middle_of_a_save(micro, killed, site) -> None:
    again = run_micro(micro_recipe(killed / site.replace(":", "-"), micro.folder))  # takes over the lock of the dead process
    assert again.code == 0 and min(again.sample_ids) == 3 and again.steps == [2, 4, 6]
    assert not list((again.folder / "checkpoints").glob(".*"))
    same_run(again, micro)


def test_the_command_stops_at_a_signal_and_the_same_command_completes(micro, tmp_path) -> None:
    recipe = micro_recipe(tmp_path / "run", micro.folder)
    (tmp_path / "micro.yaml").write_text(to_yaml(recipe))
    metrics = MetricsLog(tmp_path / "run" / "metrics.jsonl")
    with subprocess.Popen([sys.executable, CRASHING, "slow", tmp_path / "micro.yaml"], cwd=ROOT, env=ENVIRONMENT, stderr=subprocess.PIPE,
                          text=True) as process:
        while not metrics.read():
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "SIGTERM: finishing this step and saving" in said and "the same command goes on" in said and "Traceback" not in said
    again = run_micro(recipe, lambda: main(["train", str(tmp_path / "micro.yaml")]))
    assert again.code == 0
    same_run(again, micro)
