"""`ernie5 plan RECIPE --gpus N`: what a recipe would need on hardware that is not at hand, and which plans suit it."""

from __future__ import annotations

import argparse

from ernie5.cli.parsing import Subparsers, add_command, add_overrides
from ernie5.cli.recipes import find_recipe

DESCRIPTION = """Builds the model without allocating it and prints what one rank holds, sends and computes, how long a step takes, and the
first reason why the plan cannot work. --search ranks all sensible plans; what key=value sets stays as it is.

  ernie5 plan eight_gpus --gpus 8 --gpu h100
  ernie5 plan ernie5_2t --gpus 1536 --gpu h200 parallel.memory.recompute=full
  ernie5 plan my.yaml --gpus 64 --gpu a100 --search parallel.engine=megatron

Exit code 0 when the plan can work, 1 when it does not fit, 2 when it breaks a rule. docs/planner.md says how far off it is."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RECIPE [--gpus N] [--gpu NAME] [--search] [key=value …]"
    parser = add_command(subparsers, "plan", form, "memory, time and plans on any hardware", DESCRIPTION, run)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    parser.add_argument("--gpus", type=int, default=1, metavar="N", help="processes, one per device (default 1)")
    parser.add_argument("--gpu", default="h100", metavar="NAME", help="h100, h200, a100, b200 or cpu (default h100)")
    parser.add_argument("--nodes", type=int, metavar="N", help="machines that they are spread over (default: as many as they fill)")
    parser.add_argument("--search", action="store_true", help="rank the plans instead of explaining the recipe's own")
    add_overrides(parser, "parallel.tensor=4")


def run(args: argparse.Namespace) -> int:
    """Print the plan."""
    recipe = find_recipe(args.recipe)
    from ernie5.planner.run import plan_recipe

    text, works = plan_recipe(recipe, args.overrides, args.gpus, args.gpu, args.nodes, args.search)
    print(text)
    return 0 if works else 1
