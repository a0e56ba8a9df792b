"""`ernie5 ablate RECIPE`: the same training with some settings varied, over several seeds, as one table and one page."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli import recipes
from ernie5.cli.parsing import Subparsers, add_command, nearest

DESCRIPTION = """Trains every combination of the axes with every seed, on the same data in the same order, and writes a table and a page.
The same command goes on where it was stopped.

  ernie5 ablate elastic --print
  ernie5 ablate my_ablation.yaml --jobs 2

docs/ablations.md tells how to write the file. Exit codes: 0 complete, 75 stopped and saved, 1 a run failed (the others went on)."""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RECIPE [--out DIR] [--jobs N] [--print]"
    parser = add_command(subparsers, "ablate", form, "train variants of a recipe and compare them", DESCRIPTION, run)
    parser.add_argument("recipe", metavar="RECIPE", help="a YAML file with base and axes, or a shipped ablation's name")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: runs/ablations/NAME")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="so many runs at a time (default 1)")
    parser.add_argument("--print", action="store_true", dest="only_print", help="list the runs and their size, train nothing")


def run(args: argparse.Namespace) -> int:
    """Exit code: 0 complete, 75 stopped and saved, 1 a run failed."""
    path = find_ablation(args.recipe)
    from ernie5.ablate.ablation import ablate

    return ablate(path, recipes.shipped(), args.out, args.jobs, args.only_print)


def shipped_ablations() -> dict[str, Path]:
    """Name -> file of every ablation that comes with the package."""
    return {path.stem: path for path in sorted((recipes.SHIPPED / "ablations").glob("*.yaml"))}


def find_ablation(word: str) -> Path:
    """A path, or the name of a shipped ablation. ValueError with the nearest one when there is none."""
    path, shipped = Path(word), shipped_ablations()
    if path.is_file():
        return path
    if word in shipped:
        return shipped[word]
    near = nearest(word, [str(p) for p in path.parent.glob("*.yaml")]) or nearest(path.stem, shipped)
    raise ValueError(f"there is no ablation {word!r}, neither a file nor a shipped one{near}; shipped: {', '.join(shipped) or 'none'}")
