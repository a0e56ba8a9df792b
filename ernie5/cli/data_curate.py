"""`ernie5 data curate RECIPE.yaml IN OUT`: choose which samples to train on."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, add_overrides

CURATE = """Writes the samples of the shards IN that pass all steps to the new folder OUT, with rejects.jsonl (every other sample, with step
and reason) and report.json. Interrupted, the same command goes on where it stopped.

  steps:
    - length: {min_words: 5}
    - exact: {by: sample}
    - near_text: {threshold: 0.8}
    - contaminated_text: {against: eval_shards}

  ernie5 data curate clean.yaml my_shards my_clean_shards"""


def add_curate(actions: Subparsers) -> None:
    """Declare the action."""
    curate = add_command(actions, "curate", "RECIPE IN OUT [key=value …]", "filter and deduplicate shards", CURATE, run_curate)
    curate.add_argument("recipe", type=Path, metavar="RECIPE", help="YAML file with the steps")
    curate.add_argument("source", metavar="IN", help="shards: a folder, a file or a pattern")
    curate.add_argument("out", type=Path, metavar="OUT", help="new folder")
    curate.add_argument("--processes", type=int, default=1, metavar="N", help="of this machine (default 1)")
    curate.add_argument("--ray", action="store_true", help="on the machines of a Ray cluster")
    add_overrides(curate, "samples_per_shard=500")


def run_curate(args: argparse.Namespace) -> int:
    """Curate; print the report."""
    from ernie5.config import load_config
    from ernie5.data_pipelines.curate.recipe import Curation
    from ernie5.data_pipelines.curate.run import curate, some_processes

    if args.ray:
        from ernie5.data_pipelines.curate.on_ray import ray_workers

        workers = ray_workers()
    else:
        workers = some_processes(args.processes)
    print(curate(load_config(Curation, args.recipe, args.overrides), args.source, args.out, workers))
    return 0
