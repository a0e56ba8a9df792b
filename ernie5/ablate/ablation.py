"""`ernie5 ablate RECIPE`: plan, check, say how big it is, make the shared parts, run, and write the table and the page.

    DIR/parts/           tokenizers and demo data for all runs      DIR/ablation.json    every figure of the table
    DIR/LABELS-seed0/ …  ordinary run folders                       DIR/ablation.html    question, table, curves, dots

The same command goes on where it was stopped or killed. Ours.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from ernie5.ablate.check import check_plan
from ernie5.ablate.page import write_page
from ernie5.ablate.parts import prepare_parts
from ernie5.ablate.plan import Plan, plan_ablation
from ernie5.ablate.results import write_results
from ernie5.ablate.run import Outcome, run_all
from ernie5.ablate.screen import first_screen, list_runs
from ernie5.ablate.state import is_finished
from ernie5.ablate.table import table
from ernie5.run.lock import run_lock
from ernie5.run.log import logging_to
from ernie5.run.signals import EXIT_STOPPED

log = logging.getLogger(__name__)
FAILED = 1


def ablate(path: Path, shipped: Mapping[str, Path], out: Path | None = None, jobs: int = 1, only_print: bool = False) -> int:
    """Run the ablation of the file `path`; `shipped`: recipes that its `base` may name. `only_print`: list the runs, write nothing.

    Exit code: 0 complete, 75 stopped by a signal and saved, 1 when a run failed. ValueError for every mistake found before the first run.
    """
    if jobs < 1:
        raise ValueError(f"--jobs {jobs} must be at least 1")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("ernie5 ablate starts processes of its own; call it without torchrun, with --jobs for several at a time")
    plan = plan_ablation(path, out, shipped)
    sizes = check_plan(plan)
    print(first_screen(plan, sizes, jobs), flush=True)
    if only_print:
        print(f"\n{list_runs(plan, sizes)}")
        return 0
    plan.folder.mkdir(parents=True, exist_ok=True)
    with run_lock(plan.folder / ".lock"), logging_to(None, rank=0):
        return _run(plan, jobs)


def _run(plan: Plan, jobs: int) -> int:
    def report() -> None:
        write_page(plan, write_results(plan))

    outcome = Outcome()
    if not all(is_finished(run.folder, run.recipe.train.steps) for run in plan.runs):
        for parts in plan.parts:
            prepare_parts(parts)
        outcome = run_all(plan.runs, jobs, report)
    result = write_results(plan)
    page = write_page(plan, result)
    print(f"\n{table(result, shutil.get_terminal_size((100, 24)).columns)}\n\n{page}", flush=True)
    if outcome.failed:
        log.error("%d of %d runs failed: %s; the same command tries them again", len(outcome.failed), len(plan.runs),
                  "; ".join(f"{name} {reason}" for name, reason in outcome.failed.items()))
        return FAILED
    if any(not run["finished"] for variant in result["variants"] for run in variant["runs"]):
        log.warning("stopped; the same command goes on")
        return EXIT_STOPPED
    return 0
