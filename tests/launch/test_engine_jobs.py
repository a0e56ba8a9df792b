"""Whole jobs under other engines: the losses of one process, step by step, and one process that goes on where they stopped."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from micro_run import micro_recipe, run_micro

from ernie5.config import to_yaml

ROOT = Path(__file__).parents[2]
COMMON = ("model.num_kv_heads=2", "train.steps=3", "train.checkpoint_every=3")
PLANS = {
    "tensor and sequence": ("parallel.engine=megatron", "parallel.tensor=2", "parallel.sequence=true"),
    "fsdp and experts": ("parallel.zero=3", "parallel.expert=2"),
    "zero 2": ("parallel.engine=deepspeed", "parallel.zero=2"),
}


def losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss/total"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def alone(micro, tmp_path_factory) -> list[float]:
    """Four steps of one process that never stopped."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    run_micro(micro_recipe(folder, micro.folder, *COMMON, "train.steps=4"))
    return losses(folder)


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_two_ranks_train_and_one_goes_on(micro, alone, tmp_path, plan) -> None:
    recipe = tmp_path / "job.yaml"
    recipe.write_text(to_yaml(micro_recipe(tmp_path / "run", micro.folder, *COMMON, *plan)))
    command = [sys.executable, "-m", "ernie5", "launch", recipe, "--processes", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TORCHDYNAMO_DISABLE": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    assert losses(tmp_path / "run") == pytest.approx(alone[:3], rel=1e-5)
    run_micro(micro_recipe(tmp_path / "run", micro.folder, *COMMON, "train.steps=4"))
    assert losses(tmp_path / "run") == pytest.approx(alone, rel=1e-5)
