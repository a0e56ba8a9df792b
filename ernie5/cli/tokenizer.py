"""`ernie5 tokenizer train RECIPE`: train the text, vision and audio tokenizers of a recipe, without the model."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, add_overrides, add_subparsers, list_commands
from ernie5.cli.recipes import find_recipe

DESCRIPTION = "The tokenizers of text, vision and audio. ernie5 train trains those that are missing by itself."
TRAIN = """Trains the tokenizers that are missing in the recipe's run.dir. Another run takes them over with run.tokenizers=RUN_DIR.

  ernie5 tokenizer train tiny_cpu
  ernie5 train tiny_cpu run.tokenizers=runs/tiny_cpu run.dir=runs/second"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "tokenizer", "train RECIPE [key=value …]", "train only the tokenizers of a recipe", DESCRIPTION)
    actions = add_subparsers(parser)
    action = add_command(actions, "train", "RECIPE [key=value …]", "train the tokenizers that are missing", TRAIN, run)
    action.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    action.add_argument("--only", choices=("text", "vision", "audio"), help="this one alone")
    add_overrides(action)
    list_commands(parser, actions)


def run(args: argparse.Namespace) -> int:
    """0 when every tokenizer of the recipe is trained."""
    recipe = find_recipe(args.recipe)
    from ernie5.config import load_config
    from ernie5.recipe import Recipe
    from ernie5.run.folder import RunFolder
    from ernie5.run.lock import run_lock
    from ernie5.run.log import logging_to
    from ernie5.train.train_tokenizers import prepare

    settings = load_config(Recipe, recipe, args.overrides)
    settings.check()
    folder = RunFolder(Path(settings.run.folder))
    folder.create()
    with run_lock(folder.lock), logging_to(folder.logs, rank=0):
        prepare(settings, args.only)
    return 0
