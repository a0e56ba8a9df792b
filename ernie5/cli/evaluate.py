"""`ernie5 eval RUN_DIR`: how well a trained model draws, films, sounds and describes what it never saw; a table and eval.json.

With `--grid` the sub-models inside it: what they are worth, what they cost; a table and elastic.json.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, add_overrides, check_run

DESCRIPTION = """Generates for attribute combinations that training never saw and judges the decoded pixels and waveforms. accuracy: every
attribute right at once; chance: the best constant answer; ceiling: the same judge on the tokenizer's reconstruction of real media.
The held-out losses stand beside the entropy of the codes without any context (marginal). The whole result, with figures
per attribute, goes to RUN_DIR/eval.json. --grid measures sub-models instead: loss, sizes and speed, into RUN_DIR/elastic.json.

  ernie5 eval runs/tiny_cpu
  ernie5 eval runs/elastic --grid --layers 8,6 --experts 32,16 --top-k 4,2,1"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_DIR[@STEP] [--n N] [--grid …] [key=value …]"
    parser = add_command(subparsers, "eval", form, "measure a trained model on unseen combinations", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="folder of a trained run")
    parser.add_argument("--n", type=int, metavar="N", help="samples for each row of the table (default: the recipe's)")
    parser.add_argument("--grid", action="store_true", help="measure sub-models; a grid that was stopped goes on")
    for name, what in (("--layers", "numbers of layers"), ("--experts", "experts per layer"), ("--top-k", "experts per token")):
        parser.add_argument(name, metavar="N,N", help=f"{what} of the grid")
    parser.add_argument("--media", action="store_true", help="the grid also generates and judges, as eval does")
    add_overrides(parser, "evaluate.guidance=3")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if args.n is not None and args.n < 1:
        raise ValueError(f"--n {args.n} must be at least 1")
    axes = [numbers(option, word) for option, word in (("--layers", args.layers), ("--experts", args.experts), ("--top-k", args.top_k))]
    if not args.grid and (args.media or any(axis is not None for axis in axes)):
        raise ValueError("--layers, --experts, --top-k and --media belong to a grid of sub-models; add --grid")
    check_run(args.run_dir)
    if args.grid:
        return run_grid(args, axes)
    from ernie5.train.evaluate import evaluate_run

    print(table(evaluate_run(args.run_dir, n=args.n, overrides=args.overrides)))
    return 0


def run_grid(args: argparse.Namespace, axes: list[tuple[int, ...] | None]) -> int:
    """Measure the sub-models, renew the report, print a line for each."""
    from ernie5.family.grid import Grid
    from ernie5.family.surface import measure_surface
    from ernie5.report.report import write_report

    print(grid_table(measure_surface(args.run_dir, Grid(*axes), n=args.n, media=args.media, overrides=args.overrides)))
    folder = args.run_dir if Path(args.run_dir).is_dir() else args.run_dir.rpartition("@")[0]
    write_report(Path(folder))
    return 0


def numbers(option: str, word: str | None) -> tuple[int, ...] | None:
    """`8,6,5` -> (8, 6, 5)."""
    if word is None:
        return None
    try:
        return tuple(int(part) for part in word.split(","))
    except ValueError:
        raise ValueError(f"{option} {word} must be whole numbers with commas between them, for example {option} 8,6,5") from None


def grid_table(surface: dict) -> str:
    """One line for each sub-model; * marks those that no smaller one beats in total loss."""
    names = [name for name in ("total", "text", "vision", "audio") if any(p["loss"][name] for p in surface["points"])]
    rows = list(dict.fromkeys(name for p in surface["points"] for name in p.get("rows", {})))
    heads = [f"{name:>9}" for name in names] + [f"{name:>15}" for name in rows]
    lines = [f"  {'layers':>7}{'experts':>8}{'top-k':>6}{'active':>13}{'parameters':>13}{'tokens/s':>10}" + "".join(heads)]
    for p in surface["points"]:
        values = [f"{p['loss'][name]:>9.4f}" for name in names]
        values += [f"{p['rows'][name]['accuracy']:>15.3f}" if name in p.get("rows", {}) else f"{'':15}" for name in rows]
        lines.append(f"{'*' if p['pareto'] else ' ':2}{p['layers']:>7}{p['experts']:>8}{p['top_k']:>6}{p['active']:>13,}{p['total']:>13,}"
                     f"{p['tokens_per_s']:>10,.0f}" + "".join(values))
    return "\n".join(lines)


def table(result: dict) -> str:
    """The rows of `eval.json` as text: one line per direction, then each loss beside the entropy of its codes."""
    lines = [f"{'':16}{'accuracy':>10}{'chance':>10}{'ceiling':>10}{'n':>7}"]
    for name, row in result.items():
        if isinstance(row, dict) and "accuracy" in row:
            lines.append(f"{name:16}" + "".join(f"{row[key]:>10.3f}" for key in ("accuracy", "chance", "ceiling")) + f"{row['n']:>7}")
    losses = result.get("loss", {})
    if losses:
        lines += ["", f"{'held-out':16}{'loss':>10}{'marginal':>10}"]
    for name, value in losses.items():
        if "/" not in name or name.startswith("vision/"):
            lines.append(f"{name:16}{value:>10.3f}{losses.get(f'marginal/{name}', math.nan):>10.3f}")
    return "\n".join(lines)
