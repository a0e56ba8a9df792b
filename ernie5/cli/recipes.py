"""`ernie5 recipes list | copy NAME`: the recipes that come with the package, also in a wheel."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, add_subparsers, list_commands, nearest

SHIPPED = Path(__file__).parents[1] / "recipes"
BASE = re.compile(r"^base:\s*[\"']?([^\s\"'#]+)", re.MULTILINE)
DESCRIPTION = "The recipes that come with ernie5. ernie5 train takes their names."
COPY = """Copies a shipped recipe (and the files that it is based on) to change it.

  ernie5 recipes copy tiny_cpu
  ernie5 train tiny_cpu.yaml"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command and its two actions."""
    parser = add_command(subparsers, "recipes", "list | copy NAME [FOLDER]", "list or copy the shipped recipes", DESCRIPTION)
    actions = add_subparsers(parser)
    add_command(actions, "list", "", "their names, and what each is for", "Lists the shipped recipes.", run_list)
    action = add_command(actions, "copy", "NAME [FOLDER]", "copy one into your folder", COPY, run_copy)
    action.add_argument("name", metavar="NAME", help="see ernie5 recipes list")
    action.add_argument("folder", nargs="?", type=Path, default=Path("."), metavar="FOLDER", help="default: this folder")
    list_commands(parser, actions)


def run_list(args: argparse.Namespace) -> int:
    """One line for each recipe: name and first comment."""
    recipes = shipped()
    width = max(map(len, recipes), default=0)
    for name, path in recipes.items():
        print(f"{name:{width}}  {headline(path)}")
    return 0


def run_copy(args: argparse.Namespace) -> int:
    """Copy the recipe and its bases; never over a file that differs."""
    recipes = shipped()
    name = args.name.removesuffix(".yaml")
    if name not in recipes:
        raise ValueError(f"there is no shipped recipe {args.name!r}{nearest(name, recipes)}; see ernie5 recipes list")
    files = with_bases(recipes[name])
    for path in files:
        target = args.folder / path.name
        if target.exists() and target.read_bytes() != path.read_bytes():
            raise ValueError(f"{target} is already there and differs; give another folder: ernie5 recipes copy {name} FOLDER")
    args.folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        (args.folder / path.name).write_bytes(path.read_bytes())
        print(args.folder / path.name)
    return 0


def shipped() -> dict[str, Path]:
    """Name -> file of every shipped recipe: of runs, then of single tokenizers."""
    return {path.stem: path for folder in (SHIPPED, SHIPPED / "tokenizers") for path in sorted(folder.glob("*.yaml"))}


def headline(path: Path) -> str:
    """The first comment line of a recipe that says something."""
    comments = (line.strip("# \t\n") for line in path.read_text(encoding="utf-8").splitlines() if line.startswith("#"))
    return next(filter(None, comments), "")


def with_bases(path: Path) -> list[Path]:
    """A recipe and the files that its `base:` leads to."""
    files = [path]
    while (base := BASE.search(files[-1].read_text(encoding="utf-8"))) and (files[-1].parent / base[1]) not in files:
        files.append(files[-1].parent / base[1])
    return files


def find_recipe(word: str) -> Path:
    """The file that a user means: a path, or the name of a shipped recipe. ValueError with the nearest one when there is none."""
    path = Path(word)
    if path.is_file():
        return path
    if word in shipped():
        return shipped()[word]
    beside = [str(p) for p in path.parent.glob("*.yaml")]
    suggestion = nearest(word, beside) or nearest(path.stem, shipped())
    raise ValueError(f"there is no recipe {word!r}, neither a file nor a shipped one{suggestion}; see ernie5 recipes list")
