"""Two processes with gloo are one: the same gradients, losses and biases as one process with the same global batch."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from micro_run import MicroRun, micro_recipe, run_micro
from safetensors.torch import load_file
from tiny_world import small_model
from two_ranks import MODEL, STEPS, one_step

from ernie5.config import to_yaml
from ernie5.parallel.world import World

ELASTIC = ("train.rows=4", "train.steps=3", "model.num_layers=5", "elastic.slots=2", "elastic.depth={probability: 0.5, sizes: [4]}",
           "elastic.width={probability: 0.5, sizes: [2, 3]}", "elastic.sparsity={probability: 0.5, sizes: [1]}")
HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@pytest.fixture(scope="module")
def out(micro, tmp_path_factory) -> Path:
    """What both ranks have written; `run` is the run of the job."""
    out = tmp_path_factory.mktemp("two ranks")
    (out / "micro.yaml").write_text(to_yaml(micro_recipe(out / "run", micro.folder)))
    (out / "elastic.yaml").write_text(to_yaml(micro_recipe(out / "elastic run", micro.folder, *ELASTIC)))
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone", HERE / "two_ranks.py"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests")))}
    command += [out, out / "micro.yaml", out / "elastic.yaml"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def run(out) -> MicroRun:
    return MicroRun(out / "run", 0, {})


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm().clamp(min=1e-30))


@pytest.mark.parametrize("name", STEPS)
def test_gradients_are_those_of_one_process(out, name) -> None:
    number = list(STEPS).index(name)
    one, two = (load_file(out / f"step-{number}-rank-{rank}.safetensors") for rank in (0, 1))
    assert all(torch.equal(one[key], two[key]) for key in one)
    _, alone = one_step(World(0, 1, torch.device("cpu")), name)
    assert torch.equal(one["load"], alone["load"]) and torch.equal(one["bias"], alone["bias"])
    gradients = {key for key in alone if key.startswith("gradient.")}
    assert gradients == {key for key in one if key.startswith("gradient.")}
    worst = max(gradients, key=lambda key: relative(one[key], alone[key]))
    assert relative(one["losses"], alone["losses"]) < 1e-5 and relative(one[worst], alone[worst]) < 1e-5, worst
    assert all(relative(one[key], alone[key]) < 1e-4 for key in alone if key.startswith("weight."))


def test_a_layer_that_ran_nowhere_has_no_gradient_and_keeps_its_weights(out) -> None:
    number = list(STEPS).index("elastic")
    found, fresh = load_file(out / f"step-{number}-rank-0.safetensors"), small_model(MODEL)
    assert not [key for key in found if key.startswith("gradient.layers.1.")]
    weights = {key.removeprefix("weight."): value for key, value in found.items() if key.startswith("weight.")}
    same = {name for name, p in fresh.named_parameters() if torch.equal(weights[name], p)}
    assert same == {name for name, _ in fresh.named_parameters() if name.startswith("layers.1.")}
    kept = [e for e in range(4) if torch.equal(weights["layers.2.moe.experts.up"][e], fresh.layers[2].moe.experts.up[e])]
    assert kept == [1]


def test_an_elastic_run_draws_and_learns_the_same_on_two_ranks(micro, out) -> None:
    alone = run_micro(micro_recipe(out / "elastic alone", micro.folder, *ELASTIC))
    together = MicroRun(out / "elastic run", 0, {})
    for two, one in zip(together.metrics, alone.metrics, strict=True):
        for key in one:
            exact = key.startswith("elastic/") or key in ("tokens", "router/dead", "router/overloaded")
            assert two[key] == (one[key] if exact else pytest.approx(one[key], rel=1e-4)), (one["step"], key)
    assert len({line["elastic/layers"] for line in alone.metrics}) > 1


def test_losses_of_the_steps_are_those_of_one_process(micro, run) -> None:
    assert [line["step"] for line in run.metrics] == [1, 2, 3, 4, 5, 6]  # written once
    for two, one in zip(run.metrics, micro.metrics, strict=True):
        assert two.keys() == one.keys() and two["tokens"] == one["tokens"] and two["router/max_load"] == one["router/max_load"]
        for key in one:
            assert two[key] == pytest.approx(one[key], rel=1e-4), (one["step"], key)


def test_routers_are_balanced_alike_on_both_ranks(micro, out, run) -> None:
    one, two = (load_file(out / f"run-rank-{rank}.safetensors") for rank in (0, 1))
    assert torch.equal(one["bias"], two["bias"]) and torch.equal(one["router_load"], two["router_load"])
    assert one["bias"].abs().max() > 0.01
    assert torch.equal(one["router_load"], micro.saved.tensors["router_load"])
    assert run.saved.state["training"]["loader"] == micro.saved.state["training"]["loader"]


def test_one_process_goes_on_where_two_stopped(micro, run) -> None:
    alone = run_micro(micro_recipe(run.folder, micro.folder, "train.steps=7"))
    assert alone.code == 0 and [line["step"] for line in alone.metrics] == [1, 2, 3, 4, 5, 6, 7]
    assert alone.sample_ids.keys() == {7}
