"""`ernie5 train RECIPE key=value …`: train the run that a recipe describes, or continue it where it stopped."""

from __future__ import annotations

import argparse

from ernie5.cli.parsing import Subparsers, add_command, add_overrides
from ernie5.cli.recipes import find_recipe

DESCRIPTION = """Makes the demo data, trains the tokenizers that are missing, trains the model, evaluates it and writes report.html, all in
the recipe's run.dir. The same command again continues an unfinished run.

  ernie5 train tiny_cpu
  ernie5 train my.yaml train.steps=200 run.dir=runs/short
  torchrun --nproc-per-node 2 -m ernie5 train tiny_cpu

Ctrl-C or SIGTERM: the step is finished, the run saved, exit code 75. Exit code 0 means that the run is complete."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "train", "RECIPE [key=value …]", "train a recipe, or continue its unfinished run", DESCRIPTION, run)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Exit code of the training job: 0 complete, 75 stopped and saved."""
    recipe = find_recipe(args.recipe)
    from ernie5.train.job import train_recipe

    return train_recipe(recipe, args.overrides)
