"""An ablation as a whole: its plan, mistakes found before anything runs, and a 2 x 2 that is killed and goes on."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from micro_run import MICRO, micro_recipe, run_micro

from ernie5.ablate.check import check_plan
from ernie5.ablate.file import read_ablation
from ernie5.ablate.plan import plan_ablation
from ernie5.ablate.results import collect
from ernie5.ablate.state import holder, last_step
from ernie5.cli import recipes
from ernie5.cli.ablate import find_ablation, shipped_ablations
from ernie5.cli.main import main
from ernie5.config import load_config, to_yaml
from ernie5.recipe import Recipe
from ernie5.train.evaluate import evaluate_run

ROOT = Path(__file__).parents[2]
TWO_BY_TWO = """# two: does it matter?
# A question on the smallest model.
# time: none
base: micro.yaml
axes:
  model.top_k: [2, 1]
  balance: {on: {}, off: {train.balance_speed: 0}}
train: {steps: 16, rows: 1}
evaluate: {media: false}
"""


@pytest.fixture
def write(micro, tmp_path):
    """`write(text)` makes an ablation file beside micro.yaml, a recipe that takes the tokenizers of the micro run."""
    recipe = micro_recipe(tmp_path / "unused", micro.folder)
    (tmp_path / "micro.yaml").write_text(to_yaml(recipe))
    (tmp_path / "free.yaml").write_text(to_yaml(load_config(Recipe, MICRO)))

    def write_file(text: str, name: str = "two.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text.replace("MICRO", str(micro.folder)))
        return path
    return write_file


def planned(path: Path):
    plan = plan_ablation(path, path.parent / "out", {})
    check_plan(plan)
    return plan


def test_the_runs_are_the_product_of_axes_and_seeds(write) -> None:
    plan = planned(write(TWO_BY_TWO + "seeds: [3, 4]\n"))
    names = [f"{variant}-seed{seed}" for seed in (3, 4) for variant in ("top_k=2-on", "top_k=2-off", "top_k=1-on", "top_k=1-off")]
    assert [run.name for run in plan.runs] == names and not plan.parts
    assert (plan.file.title, plan.file.about) == ("does it matter?", "A question on the smallest model.")
    for run in plan.runs:
        recipe = run.recipe
        assert recipe.run.seed == run.seed and recipe.run.dir == str(plan.folder / run.name) and recipe.evaluate.at_end
        assert recipe.model.top_k == int(run.variant.labels["model.top_k"]) and recipe.train.steps == 16
        assert recipe.train.balance_speed == (0.01 if run.variant.labels["balance"] == "on" else 0)


def test_labels_of_lists_classes_and_equal_ends(write) -> None:
    text = """base: micro.yaml
axes:
  elastic.depth.sizes: [[], [2, 3]]
  elastic.width.sizes: [[2]]
  model.router: ["ernie5.model.router:Router", my.routers:Other]
"""
    axes = [[choice.slug for choice in axis.choices] for axis in read_ablation(write(text)).axes]
    assert axes == [["depth.sizes=none", "depth.sizes=2,3"], ["width.sizes=2"], ["router=Router", "router=Other"]]


def test_parts_are_shared_unless_they_differ(write) -> None:
    (parts,) = planned(write("base: free.yaml\naxes: {model.top_k: [1, 2]}\nseeds: [1, 2]\n")).parts
    assert parts.run.dir.endswith("out/parts") and parts.run.seed == 0
    plan = planned(write("base: free.yaml\naxes: {tokenizers.vision.bits: [4, 8], model.top_k: [1, 2]}\n"))
    assert [parts.tokenizers.vision.bits for parts in plan.parts] == [4, 8]
    places = {run.recipe.run.tokenizers: run.recipe.tokenizers.vision.bits for run in plan.runs}
    assert list(places.values()) == [4, 8] and [parts.run.dir for parts in plan.parts] == list(places)


def test_parts_of_another_kind_are_not_taken(write, tmp_path) -> None:
    plan = planned(write("base: free.yaml\naxes: {model.top_k: [1, 2]}\n"))
    folder = Path(plan.parts[0].run.folder)
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(to_yaml(plan.parts[0]))
    planned(write("base: free.yaml\naxes: {model.top_k: [1, 2, 4]}\n"))
    with pytest.raises(ValueError, match="was made for another ablation: .*\n.*tokenizers.vision.bits: 8 -> 4"):
        planned(write("base: free.yaml\naxes: {model.top_k: [1, 2]}\ntokenizers: {vision: {bits: 4}}\n"))


def test_a_branch_begins_with_the_weights_of_its_run(write, micro) -> None:
    plan = planned(write("base: MICRO@4\naxes: {train.balance_speed: [0, 0.1]}\n"))
    for run in plan.runs:
        assert run.recipe.run.start_from == f"{micro.folder}@4" and run.recipe.run.start_load == "weights"
        assert run.recipe.run.tokenizers == str(micro.folder) and len(run.steps) == 6
    plan = planned(write("base: MICRO\nrun: {start_load: all}\ntrain: {steps: 8}\naxes: {train.balance_speed: [0, 0.1]}\n"))
    assert [(run.recipe.run.start_from, len(run.steps)) for run in plan.runs] == [(f"{micro.folder}@6", 2)] * 2


MISTAKES = {
    "base: micro.yaml": "two.yaml: axes must be given",
    "axes: {model.top_k: [1]}": "two.yaml: base must be given",
    "base: mikro.yaml\naxes: {model.top_k: [1]}": "two.yaml:1: base = mikro.yaml is no recipe .* did you mean micro.yaml?",
    "base: MICRO@5\naxes: {model.top_k: [1]}": "two.yaml:1: base = .*committed steps in .*: 2, 4, 6",
    "base: micro.yaml\naxes:\n  model.topk: [1]": "two.yaml:3: unknown key model.topk; did you mean top_k?",
    "base: micro.yaml\naxes:\n  a: {b: {modle.top_k: 1}}": "two.yaml:3: unknown key modle; did you mean model?",
    "base: micro.yaml\naxes:\n  model.top_k: [1, two]": "two.yaml:3: model.top_k = two must be a whole number",
    "base: micro.yaml\naxes:\n  model.top_k: [1, 9]": "top_k=9-seed0: model.top_k = 9 must lie between 1 and",
    "base: micro.yaml\naxes:\n  model.top_k: []": "two.yaml:3: the axis model.top_k is empty",
    "base: micro.yaml\naxes: {}": "two.yaml:2: axes must be a map with at least one axis",
    "base: micro.yaml\naxes:\n  model.top_k: 1": "two.yaml:3: the axis model.top_k must be a list of values",
    "base: micro.yaml\naxes:\n  model.top_k: [1, 1]": "two.yaml:3: the axis model.top_k has two variants called top_k=1",
    "base: micro.yaml\naxes:\n  a: {x y: {}, x-y: {}}": "two.yaml:3: the axis a has two variants called x-y",
    "base: micro.yaml\naxes:\n  a: {x-y: {}, x: {}}\n  b: {z: {}, y-z: {}}": "two variants would be called x-y-z",
    "base: micro.yaml\naxes:\n  a: {x: 3}": "two.yaml:3: a.x must be a map of the recipe's keys",
    "base: micro.yaml\naxes:\n  elastic.depth: [{sizes: [1]}]": "two.yaml:3: a value of the axis elastic.depth is a map; give it a label",
    "base: micro.yaml\naxes:\n  model.top_k: [1]\n  a: {x: {model: {top_k: 2}}}": "two.yaml:4: the axes model.top_k and a both set model;",
    "base: micro.yaml\naxes:\n  run.seed: [1]": "two.yaml:3: run.seed differs from run to run; give `seeds:` instead",
    "base: micro.yaml\nrun: {dir: x}\naxes: {model.top_k: [1]}": "two.yaml:2: run.dir differs from run to run",
    "base: micro.yaml\naxs: {}\naxes: {model.top_k: [1]}": "two.yaml:2: unknown key axs; did you mean axes?",
    "base: micro.yaml\nseeds: [1, 1]\naxes: {model.top_k: [1]}": "two.yaml:2: seeds names 1 twice",
    "base: micro.yaml\nseeds: [a]\naxes: {model.top_k: [1]}": "two.yaml:2: seeds.0. = a must be a whole number",
    "base: micro.yaml\nname: a/b\naxes: {model.top_k: [1]}": "two.yaml:2: name = a/b must be one word",
    "base: micro.yaml\nevaluate: {at_end: false}\naxes: {model.top_k: [1]}": "evaluate.at_end must stay true",
    "base: micro.yaml\naxes:\n  data.demo.seed: [1]": "two.yaml:3: data.demo.seed cannot vary: .* run.tokenizers = ",
    "base: MICRO\ntokenizers: {vision: {bits: 4}}\naxes: {model.top_k: [1]}": "tokenizers and data.demo of a branch are those of",
    "base: MICRO@4\naxes:\n  model.expert_dim: [16, 32]": "expert_dim=32-seed0: the weights of .*@4 do not fit this model: .* 4 x 32 x 64",
    "base: MICRO@4\nrun: {start_load: all}\ntrain: {steps: 4}\naxes: {model.top_k: [1]}": "train.steps = 4 must be more than 4",
    "base: free.yaml\nrun: {start_from: MICRO}\naxes: {model.top_k: [1]}": "run.start_from = .* needs run.tokenizers",
    "base: micro.yaml\naxes: {model.router: ['no.such:Router']}": "router=Router-seed0: part 'no.such:Router': there is no module no",
}


@pytest.mark.parametrize(("text", "message"), MISTAKES.items(), ids=[text.replace("\n", " ") for text in MISTAKES])
def test_a_mistake_is_told_before_anything_runs(text, message, write, tmp_path) -> None:
    with pytest.raises(ValueError, match=message):
        planned(write(text + "\n"))
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_runs_is_refused(write, micro) -> None:
    plan = planned(write(TWO_BY_TWO))
    run = plan.runs[0]
    run.folder.create().write_recipe(to_yaml(run.recipe))
    (run.folder.checkpoints / "step-00000002").mkdir()
    planned(write(TWO_BY_TWO.replace("steps: 16", "prefetch: off, steps: 16")))
    with pytest.raises(ValueError, match="top_k=2-on-seed0: .*\n.*train.steps: 16 -> 17\n.*choose another folder with --out"):
        planned(write(TWO_BY_TWO.replace("steps: 16", "steps: 17")))


@pytest.mark.parametrize("path", shipped_ablations().values(), ids=lambda path: path.stem)
def test_every_shipped_ablation_plans(path, tmp_path) -> None:
    plan = plan_ablation(path, tmp_path / "out", recipes.shipped())
    assert len(check_plan(plan)) == len(plan.runs) >= 2 and plan.file.name == path.stem and plan.file.title != path.stem
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    for word in ("command:", "hardware:", "time:", "expect:"):
        assert any(word in line for line in header), f"the header of {path.name} lacks {word}"
    assert find_ablation(path.stem) == path


def test_print_lists_the_runs_and_writes_nothing(write, tmp_path, capsys) -> None:
    assert main(["ablate", str(write(TWO_BY_TWO)), "--out", str(tmp_path / "out"), "--print"]) == 0
    out = capsys.readouterr().out
    assert "4 variants x 1 seed(s) = 4 runs: 64 steps, 12.3 k positions" in out and out.count("to do") == 4
    assert not (tmp_path / "out").exists()


def test_mistakes_on_the_command_line(write, capsys) -> None:
    path = write(TWO_BY_TWO)
    for words, message in ((["no.yaml"], "there is no ablation 'no.yaml'"), ([str(path), "--jobs", "0"], "--jobs 0 must be at least 1")):
        assert main(["ablate", *words]) == 2
        assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_two_by_two_goes_on_and_gives_the_same_table(write, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    path = write(TWO_BY_TWO)
    whole = planned(path)
    for run in whole.runs:  # in one go, in this process
        run_micro(run.recipe)
        evaluate_run(run.folder.path)

    command = [sys.executable, "-m", "ernie5", "ablate", str(path), "--jobs", "2", "--out", str(tmp_path / "killed")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    plan = plan_ablation(path, tmp_path / "killed", {})
    first_two = plan.runs[:2]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        while not (begun := [run for run in first_two if last_step(run.folder) > 3]):
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    os.kill(holder(begun[0].folder), signal.SIGKILL)  # the other one goes on alone
    assert not any(run["finished"] for variant in collect(plan)["variants"][2:] for run in variant["runs"])

    assert main(command[3:]) == 0
    assert collect(plan) == collect(whole) and (tmp_path / "killed" / "ablation.html").exists()
    said = capsys.readouterr()
    assert "Traceback" not in said.err and "\ntop_k=1-off " in said.out
