"""`ernie5 plan`: a recipe and hardware in, a text and whether it can work out. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from ernie5.config import load_config
from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.estimate import estimate
from ernie5.planner.hardware import hardware_named
from ernie5.planner.job import job_of
from ernie5.planner.search import search
from ernie5.planner.told import told, told_search
from ernie5.planner.ways import fits
from ernie5.recipe import Recipe


def plan_recipe(path: Path, overrides: Sequence[str], num_gpus: int, gpu: str, nodes: int | None, searching: bool) -> tuple[str, bool]:
    """The text to print, and whether the plan can work (of a search: whether any can). ValueError for a plan that breaks a rule."""
    hardware = hardware_named(gpu)
    if num_gpus < 1:
        raise ValueError(f"--gpus {num_gpus} must be at least 1")
    if nodes is not None:
        if nodes < 1 or num_gpus % nodes:
            raise ValueError(f"--nodes {nodes} must divide --gpus {num_gpus}: every node has equally many")
        hardware = replace(hardware, per_node=num_gpus // nodes)
    recipe = load_config(Recipe, path, overrides)
    if searching:
        replace(recipe, parallel=ParallelPlan()).check()  # everything else; the plan is what is looked for
        found = search(recipe.parallel, job := job_of(recipe, hardware, num_gpus), fixed_keys(overrides))
        return told_search(found, job), bool(found)
    recipe.check(num_gpus)
    result = estimate(recipe.parallel, job := job_of(recipe, hardware, num_gpus))
    return told(result, job), fits(result, job)


def fixed_keys(overrides: Sequence[str]) -> frozenset[str]:
    """What the command line sets of a plan, and a search leaves alone."""
    keys = [word.partition("=")[0].strip() for word in overrides]
    return frozenset(key.rpartition(".")[2] for key in keys if key.startswith("parallel.") or key == "train.micro_rows")
