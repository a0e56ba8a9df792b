"""`ernie5 eval RUN_DIR`: how well a trained model draws, films, sounds and describes what it never saw; a table and eval.json."""

from __future__ import annotations

import argparse
import math

from ernie5.cli.parsing import Subparsers, add_command, add_overrides, check_run

DESCRIPTION = """Generates for attribute combinations that training never saw and judges the decoded pixels and waveforms. accuracy: every
attribute right at once; chance: the best constant answer; ceiling: the same judge on the tokenizer's reconstruction of real media.
The held-out losses stand beside the entropy of the codes without any context (marginal). The whole result, with figures
per attribute, goes to RUN_DIR/eval.json.

  ernie5 eval runs/tiny_cpu
  ernie5 eval runs/tiny_cpu evaluate.guidance=3"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_DIR[@STEP] [--n N] [key=value …]"
    parser = add_command(subparsers, "eval", form, "measure a trained model on unseen combinations", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="folder of a trained run")
    parser.add_argument("--n", type=int, metavar="N", help="samples for each row of the table (default: the recipe's)")
    add_overrides(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table."""
    if args.n is not None and args.n < 1:
        raise ValueError(f"--n {args.n} must be at least 1")
    check_run(args.run_dir)
    from ernie5.train.evaluate import evaluate_run

    print(table(evaluate_run(args.run_dir, n=args.n, overrides=args.overrides)))
    return 0


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
        if "/" not in name:
            lines.append(f"{name:16}{value:>10.3f}{losses.get(f'marginal/{name}', math.nan):>10.3f}")
    return "\n".join(lines)
