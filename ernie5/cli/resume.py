"""`ernie5 resume RUN_DIR[@STEP] key=value … --to NEW_DIR`: continue a run, or fork a new one from one of its checkpoints."""

from __future__ import annotations

import argparse
from pathlib import Path

from ernie5.cli.parsing import Subparsers, add_command, add_overrides, check_run

DESCRIPTION = """Continues a run from its last good checkpoint, bit for bit. With --to it starts a new run from there (or from the
checkpoint of STEP), with other settings if you like; the new run remembers where it came from.

  ernie5 resume runs/tiny_cpu
  ernie5 resume runs/tiny_cpu@1000 train.steps=3000 --to runs/longer"""


def add_parser(subparsers: Subparsers) -> None:
    """Declare the command."""
    form = "RUN_DIR[@STEP] [key=value …] [--to NEW_DIR]"
    parser = add_command(subparsers, "resume", form, "continue a run, or fork it at a checkpoint", DESCRIPTION, run)
    parser.add_argument("run_dir", metavar="RUN_DIR[@STEP]", help="the run's folder, and the step of a checkpoint")
    add_overrides(parser)
    parser.add_argument("--to", type=Path, metavar="NEW_DIR", help="folder of the new run; needed with @STEP or key=value")


def run(args: argparse.Namespace) -> int:
    """Exit code of the training job: 0 complete, 75 stopped and saved."""
    check_run(args.run_dir)
    from ernie5.train.job import resume_run

    return resume_run(args.run_dir, args.overrides, args.to)
