"""`ernie5 analyze RUN_DIR`: which experts every kind of position uses, shares and crowds; a table, routing.json and report.html."""

from __future__ import annotations

import argparse
from itertools import combinations
from typing import TYPE_CHECKING

from ernie5.cli.parsing import Subparsers, add_command, check_run

if TYPE_CHECKING:
    from ernie5.analysis.routing_study import RoutingStudy

DESCRIPTION = """Runs the model over the first samples of every training source and counts which experts every kind of position (modality,
read or made) chooses. iou: what two kinds share of their busiest 25 % of experts; entropy: 1 = spread evenly; peak: the share of
positions that chose the busiest expert. Beside each stands what chance would give. All layers go to RUN_DIR/routing.json,
figures to RUN_DIR/report.html.

  ernie5 analyze runs/tiny_cpu
  ernie5 analyze runs/tiny_cpu@1000 --n 500"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    parser = add_command(subparsers, "analyze", "RUN_DIR[@STEP] [--n N]", "study which experts a trained model uses", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="folder of a trained run")
    parser.add_argument("--n", type=int, default=200, metavar="N", help="samples of every source (default 200)")


def run(args: argparse.Namespace) -> int:
    """Print the summary."""
    if args.n < 1:
        raise ValueError(f"--n {args.n} must be at least 1")
    check_run(args.run_dir)
    from ernie5.train.analyze import analyze_run

    print(summary(analyze_run(args.run_dir, args.n)))
    return 0


def summary(study: RoutingStudy) -> str:
    """IoU of every pair of kinds, entropy and peak of every kind: first, middle and last layer, the mean of all layers, and chance."""
    from ernie5.analysis.routing import set_size
    from ernie5.report.router import kind_name

    names, shown = [kind_name(kind) for kind in study.kinds], list(study.shown)
    pairs, deep = combinations(range(len(names)), 2), study.num_layers
    heads = "".join(f"{name:>10}" for name in (*(study.layer_name(i) for i in shown), "all", "chance"))
    lines = [f"step {study.step}, {study.samples} samples of every source; {study.num_experts} experts, top-{study.top_k}", ""]
    lines += [f"{f'iou of the busiest {set_size(study.num_experts)} experts':34}{heads}"]
    for a, b in pairs:
        lines.append(_row(f"{names[a]} - {names[b]}", [*study.iou[shown, a, b], study.iou[:deep, a, b].mean(), study.chance_iou]))
    lines += [f"at most 5 % of random pairs lie above {study.chance_iou_95:.2f}"]
    for title, values, chance in (("entropy", study.entropy, study.chance_entropy), ("peak", study.peak, study.chance_peak)):
        lines += ["", f"{title:34}{heads}"]
        lines += [_row(name, [*values[shown, r], values[:deep, r].mean(), chance[0, r]]) for r, name in enumerate(names)]
    return "\n".join(lines)


def _row(name: str, values: list[float]) -> str:
    return f"{name:34}" + "".join(f"{'-':>10}" if v != v else f"{v:>10.2f}" for v in values)
