"""`ernie5 data verify PATH…` and `ernie5 data inspect PATH…`: whether data is whole, and what is in it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command
from ernie5.cli.recipes import find_recipe

if TYPE_CHECKING:
    from ernie5.inspect.open_paths import Opened
    from ernie5.inspect.walk import Job
    from ernie5.recipe import Recipe

VERIFY = """Reads every sample, checks every checksum and decodes every medium under the caps of the recipe (or of the defaults).
Exit code 1 when anything is damaged.

  ernie5 data verify shards --out problems.jsonl
  ernie5 data verify --recipe my.yaml              the sources of the recipe"""
INSPECT = """Reads and decodes every sample and tells what is there: directions, sizes, lengths, languages, tokens, rejects. --html
adds histograms and examples on one page. Exit code 1 when anything is damaged.

  ernie5 data inspect shards --html shards.html
  ernie5 data inspect shards --at-most 10000 --tokenizers runs/tiny_cpu"""


def add_actions(actions: Subparsers) -> None:
    """Declare both actions of `ernie5 data`."""
    verify = add_command(actions, "verify", "PATH… [--recipe R]", "check and decode every sample", VERIFY, run_verify)
    _add_common(verify)
    verify.add_argument("--out", type=Path, metavar="FILE", help="write every problem, one JSON object a line")
    inspect = add_command(actions, "inspect", "PATH… [--html FILE]", "what is in there, with examples", INSPECT, run_inspect)
    _add_common(inspect)
    inspect.add_argument("--html", type=Path, metavar="FILE", help="write the page")
    inspect.add_argument("--tokenizers", metavar="RUN_DIR", help="count tokens with those of this run")
    inspect.add_argument("--at-most", type=int, metavar="N", help="look at N samples, spread evenly")


def run_verify(args: argparse.Namespace) -> int:
    """0 when everything is whole, 1 when not."""
    _check(args)
    from ernie5.inspect.verify import told, verify

    opened, job = _open(args, _recipe(args.recipe))
    found = verify(opened, job, args.jobs, args.out)
    print(told(found, args.out))
    return 1 if found.num_damaged else 0


def run_inspect(args: argparse.Namespace) -> int:
    """0 when everything is whole, 1 when not."""
    _check(args)
    if args.at_most is not None and args.at_most < 1:
        raise ValueError(f"--at-most {args.at_most} must be at least 1")
    from ernie5.inspect.codes import check_tokenizers, told_codes
    from ernie5.inspect.from_recipe import recipe_of
    from ernie5.inspect.inspect_data import inspect_data, told, write_inspection

    run = recipe_of(args.tokenizers) if args.tokenizers else None
    opened, job = _open(args, _recipe(args.recipe) or run, guess=True, run=args.tokenizers)
    if args.tokenizers:
        from ernie5.inspect.tokens import lengths_of

        check_tokenizers(opened, lengths_of(args.tokenizers).tokenizers)
    survey = inspect_data(opened, job, args.jobs, args.at_most)
    print("\n".join([told(survey), *told_codes(opened)]))
    if args.html:
        names = list(dict.fromkeys(name for name, *_ in opened.sources)) or ["data"]
        title = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        write_inspection(args.html, survey, opened, job, title, run.train.length if run else None)
        print(f"\n{args.html}")
    return 1 if survey.num_problems else 0


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a tar, .jsonl or .parquet file, a folder, a pattern, a URL")
    parser.add_argument("--recipe", metavar="R", help="take the caps, and without PATH the sources, from this recipe")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes (default 1)")


def _check(args: argparse.Namespace) -> None:
    if not args.paths and not args.recipe:
        raise ValueError(f"give at least one PATH, or --recipe; see {args.path} --help")
    if args.jobs < 1:
        raise ValueError(f"--jobs {args.jobs} must be at least 1")


def _recipe(word: str | None) -> Recipe | None:
    if word is None:
        return None
    from ernie5.config import load_config
    from ernie5.recipe import Recipe

    return load_config(Recipe, find_recipe(word))


def _open(args: argparse.Namespace, recipe: Recipe | None, guess: bool = False, run: str | None = None) -> tuple[Opened, Job]:
    from ernie5.inspect.examine import language_is_known
    from ernie5.inspect.open_paths import name_paths, open_paths
    from ernie5.inspect.walk import Job

    job = Job(guess_language=guess and language_is_known(), run=run)
    named = name_paths(args.paths)
    if recipe is not None:
        job = Job(recipe.data.limits, recipe.tokenizers.audio.codec.sample_rate_hz, job.guess_language, run, recipe.understanding.unit)
        if not args.paths:
            from ernie5.inspect.from_recipe import sources_of

            named = sources_of(recipe)
    return open_paths(named), job
