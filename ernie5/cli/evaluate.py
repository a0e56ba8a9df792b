"""`ernie5 eval RUN_DIR`: how well a trained model draws, films, sounds and describes what it never saw; a table and eval.json."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command

DESCRIPTION = """Generates for attribute combinations that training never saw and judges the decoded pixels and waveforms. accuracy: every
attribute right at once; chance: the best constant answer; ceiling: the same judge on the tokenizer's reconstruction of real media.
The whole result, with figures per attribute, goes to RUN_DIR/eval.json.

  ernie5 eval runs/tiny_cpu"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "eval", "RUN_DIR [--n N]", "measure a trained model on unseen combinations", DESCRIPTION, run)
    parser.add_argument("run_dir", type=Path, metavar="RUN_DIR", help="folder of a trained run")
    parser.add_argument("--n", type=int, default=200, metavar="N", help="samples for each row of the table (default 200)")


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if args.n < 1:
        raise ValueError(f"--n {args.n} must be at least 1")
    if not args.run_dir.is_dir():
        raise ValueError(f"{args.run_dir}: no such run folder; train one with ernie5 train tiny_cpu")
    from ernie5.train.evaluate import evaluate_run

    print(table(evaluate_run(args.run_dir, n=args.n)))
    return 0


def table(result: dict) -> str:
    """The rows of `eval.json` as text: one line per direction, then the losses."""
    lines = [f"{'':16}{'accuracy':>10}{'chance':>10}{'ceiling':>10}{'n':>7}"]
    for name, row in result.items():
        if isinstance(row, dict) and "accuracy" in row:
            lines.append(f"{name:16}" + "".join(f"{row[key]:>10.3f}" for key in ("accuracy", "chance", "ceiling")) + f"{row['n']:>7}")
    losses = [f"{name} {value:.4f}" for name, value in result.get("loss", {}).items() if isinstance(value, int | float)]
    return "\n".join(lines + (["", "loss  " + "  ".join(losses)] if losses else []))
