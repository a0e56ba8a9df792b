"""What an ablation found: per variant and metric the mean and spread over its seeds, and the difference to the first variant.

    spread = standard deviation (n - 1);   difference = mean over seeds of (variant - first), seed by seed: both saw the same data
    clear: 0 lies outside the 95 % interval of the difference (Student's t), so at least two seeds are needed

Losses are those of held-out data (eval.json); `router/max_load` is the mean over the last tenth of the training steps. Ours.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from ernie5.ablate.plan import Plan, PlannedRun
from ernie5.ablate.state import is_finished, last_step
from ernie5.report.read import DIRECTIONS, dig, number
from ernie5.run.files import atomic_write
from ernie5.run.metrics_log import MetricsLog

LOSSES = ("total", "text", "vision", "audio", "multi_token")
ORDER = (*(f"loss/{name}" for name in LOSSES), *(f"accuracy/{row}" for row in DIRECTIONS), "router/max_load")
STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)  # 97.5 %, for 2, 3, … seeds


def write_results(plan: Plan) -> dict[str, Any]:
    """Write `ablation.json` from what the run folders hold, and return what it says."""
    result = collect(plan)
    plan.folder.mkdir(parents=True, exist_ok=True)
    atomic_write(plan.folder / "ablation.json", json.dumps(result, indent=1, ensure_ascii=False).encode())
    return result


def collect(plan: Plan) -> dict[str, Any]:
    """Everything that tables and pages show. Runs that are not finished have no metrics."""
    variants, first = [], None
    for variant in plan.variants:
        runs = [_run(run) for run in plan.of(variant)]
        values = {run["seed"]: run["metrics"] for run in runs}
        first = values if first is None else first
        variants.append({"name": variant.name, "labels": variant.labels, "runs": runs, "metrics": summary(values, first)})
    return {
        "name": plan.file.name, "title": plan.file.title, "about": plan.file.about, "base": plan.base.shown,
        "axes": {axis.name: [choice.label for choice in axis.choices] for axis in plan.file.axes}, "seeds": list(plan.file.seeds),
        "metrics": [key for key in ORDER if any(key in variant["metrics"] for variant in variants)], "variants": variants,
    }


def summary(values: Mapping[int, Mapping[str, float]], first: Mapping[int, Mapping[str, float]]) -> dict[str, dict[str, Any]]:
    """metric -> `mean`, `spread` (None for one seed), `n` and `difference`, from seed -> metric -> value of a variant and of the first."""
    found = {}
    for key in ORDER:
        over_seeds = [metrics[key] for metrics in values.values() if key in metrics]
        if over_seeds:
            pairs = [(metrics[key], first[seed][key]) for seed, metrics in values.items() if key in metrics and key in first.get(seed, {})]
            found[key] = {**_spread(over_seeds), "difference": None if values is first or not pairs else difference(pairs)}
    return found


def difference(pairs: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """Of (value, value of the first variant), one pair a seed; `relative` to the mean of the first."""
    found = _spread([value - other for value, other in pairs])
    origin, n = fmean(other for _, other in pairs), len(pairs)
    error = found["spread"] / math.sqrt(n) if n > 1 else math.inf
    t = STUDENT_T[min(n, len(STUDENT_T) + 1) - 2]
    return {**found, "relative": found["mean"] / abs(origin) if origin else None, "clear": n > 1 and abs(found["mean"]) > t * error}


def _spread(values: Sequence[float]) -> dict[str, Any]:
    return {"mean": fmean(values), "spread": stdev(values) if len(values) > 1 else None, "n": len(values)}


def _run(run: PlannedRun) -> dict[str, Any]:
    finished = is_finished(run.folder, run.recipe.train.steps)
    return {"seed": run.seed, "folder": run.name, "finished": finished, "step": last_step(run.folder),
            "metrics": metrics_of(run) if finished else {}}


def metrics_of(run: PlannedRun) -> dict[str, float]:
    """The metrics of a finished run, by name."""
    evaluation = json.loads((run.folder.path / "eval.json").read_bytes())
    found = {f"loss/{name}": number(dig(evaluation, f"loss.{name}")) for name in LOSSES}
    found = {key: value for key, value in found.items() if value != 0}  # exactly 0: nothing of this kind to predict
    found |= {f"accuracy/{row}": number(dig(evaluation, f"{row}.accuracy")) for row in DIRECTIONS}
    loads = [number(line.get("router/max_load")) for line in MetricsLog(run.folder.metrics).read()]
    last = [load for load in loads[-max(1, len(loads) // 10):] if load is not None]
    found["router/max_load"] = fmean(last) if last else None
    return {key: value for key, value in found.items() if value is not None}
