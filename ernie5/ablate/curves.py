"""What the variants of an ablation did over the steps: losses, and their distance from the first variant in per cent.

A point is the mean over a stretch of steps and over all seeds; distances are taken seed by seed. Finished runs only. Ours.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np

from ernie5.ablate.plan import Plan, PlannedRun, Variant
from ernie5.ablate.plots import Line, colour_of, line_plot
from ernie5.ablate.state import is_finished
from ernie5.report.html import Html, el
from ernie5.report.read import dig, number
from ernie5.report.tables import NAMES, UNITS
from ernie5.run.metrics_log import MetricsLog

STRETCHES = 40
SHOWN = ("total", *UNITS)
Series = dict[int, float]  # step -> value
BySeed = Mapping[int, Series]


def training_figures(plan: Plan) -> Html | None:
    """Of the losses of the training steps."""
    read = {run.name: MetricsLog(run.folder.metrics).read() for run in plan.runs if is_finished(run.folder, run.recipe.train.steps)}
    return _figures(plan, {name: {loss: _positive({int(str(line["step"])): line.get(f"loss/{loss}") for line in lines}) for loss in SHOWN}
                           for name, lines in read.items()}, "training loss")


def heldout_figures(plan: Plan) -> Html | None:
    """Of the evaluations on the way (`train.evaluate_every`); None where there were none."""
    found = {}
    for run in plan.runs:
        if is_finished(run.folder, run.recipe.train.steps):
            evaluations = _evaluations(run)
            if len(evaluations) > 1:
                found[run.name] = {loss: _positive({step: dig(e, f"loss.{loss}") for step, e in evaluations.items()}) for loss in SHOWN}
    return _figures(plan, found, "held-out loss")


def _figures(plan: Plan, found: Mapping[str, Mapping[str, Series]], what: str) -> Html | None:
    figures = []
    for loss in SHOWN:
        by_variant = {v.name: {run.seed: found[run.name][loss] for run in plan.of(v) if found.get(run.name, {}).get(loss)}
                      for v in plan.variants}
        first = by_variant[plan.variants[0].name]
        unit = UNITS.get(loss, "weighted sum")
        levels = _lines(plan.variants, by_variant)
        gaps = _lines(plan.variants, {name: _gaps(values, first) for name, values in by_variant.items()})
        figures += [_figure(f"{what}, {NAMES[loss]}", unit, line_plot(levels)) if levels else None,
                    _figure(f"distance, {NAMES[loss]}", f"from {plan.variants[0].name}; below 0 is better", line_plot(gaps, percent=True))
                    if len(gaps) > 1 else None]
    figures = [figure for figure in figures if figure is not None]
    return el("div", figures, class_="charts") if figures else None


def _figure(name: str, told: str, drawing: Html | None) -> Html | None:
    return el("figure", el("figcaption", el("b", name), told), drawing, class_="card") if drawing is not None else None


def _lines(variants: Sequence[Variant], by_variant: Mapping[str, BySeed]) -> list[Line]:
    """The first variant is drawn last, over the others."""
    lines = [Line(*stretched(by_variant[v.name]), colour_of(i)) for i, v in enumerate(variants) if by_variant[v.name]]
    return lines[1:] + lines[:1]


def stretched(values: BySeed) -> tuple[np.ndarray, np.ndarray]:
    """Last step and mean of every stretch, over the seeds."""
    steps = np.array(sorted({step for series in values.values() for step in series}))
    means = np.array([np.mean([series[step] for series in values.values() if step in series]) for step in steps])
    parts = np.array_split(np.arange(len(steps)), min(STRETCHES, len(steps)))
    return np.array([steps[part[-1]] for part in parts]), np.array([means[part].mean() for part in parts])


def _gaps(values: BySeed, first: BySeed) -> dict[int, Series]:
    pairs = {seed: {step: value / first[seed][step] - 1 for step, value in series.items() if step in first[seed]}
             for seed, series in values.items() if seed in first}
    return {seed: series for seed, series in pairs.items() if series}


def _positive(values: Mapping[int, object]) -> Series:
    """Numbers only; a step without any target of a modality logs exactly 0, which is no loss."""
    read = {step: number(value) for step, value in values.items()}
    return {step: value for step, value in read.items() if value}


def _evaluations(run: PlannedRun) -> dict[int, dict]:
    paths = [*sorted(run.folder.samples.glob("eval-*.json")), run.folder.path / "eval.json"]
    read = [json.loads(path.read_bytes()) for path in paths]
    return {int(evaluation["step"]): evaluation for evaluation in read}
