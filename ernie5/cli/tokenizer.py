"""`ernie5 tokenizer train | eval | serve`: train the tokenizers of a recipe without the model, measure them, serve them to other runs."""

from __future__ import annotations

import argparse

from ernie5.cli import tokenizer_eval, tokenizer_serve
from ernie5.cli.parsing import Subparsers, add_command, add_overrides, add_subparsers, list_commands
from ernie5.cli.recipes import find_recipe

DESCRIPTION = "The tokenizers of text, vision and audio. ernie5 train trains those that are missing by itself."
TRAIN = """Trains the tokenizers that are missing in the recipe's run.dir. Another run takes them over with run.tokenizers=RUN_DIR.

  ernie5 tokenizer train tiny_cpu
  ernie5 tokenizer train recipes/tokenizers/audio_tiny.yaml --only audio
  ernie5 train tiny_cpu run.tokenizers=runs/tiny_cpu run.dir=runs/second"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "tokenizer", "train | eval | serve …", "train, measure and serve tokenizers", DESCRIPTION)
    actions = add_subparsers(parser)
    action = add_command(actions, "train", "RECIPE [key=value …]", "train the tokenizers that are missing", TRAIN, run)
    action.add_argument("recipe", metavar="RECIPE", help="a YAML file, or the name of a shipped recipe")
    action.add_argument("--only", choices=("text", "vision", "audio"), help="this one alone")
    add_overrides(action)
    tokenizer_eval.add_action(actions)
    tokenizer_serve.add(actions)
    list_commands(parser, actions)


def run(args: argparse.Namespace) -> int:
    """0 when every tokenizer of the recipe is trained."""
    recipe = find_recipe(args.recipe)
    from ernie5.config import load_config
    from ernie5.recipe import Recipe
    from ernie5.train.tokenizer_job import train_tokenizers

    train_tokenizers(load_config(Recipe, recipe, args.overrides), args.only)
    return 0
