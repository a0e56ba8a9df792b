"""What happened over the steps: one small chart a number, from metrics.jsonl and the evaluations on the way. Ours."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ernie5.report.html import Html, el
from ernie5.report.plots import COLOURS, NARROW, Curve, line_chart
from ernie5.report.read import KINDS, RunRecord, dig, number
from ernie5.report.tables import NAMES, UNITS, direction_name

OTHERS = (  # metric, name, what it is, colour, whether it is noisy
    ("lr", "learning rate", "", "text", False),
    ("grad_norm", "gradient norm", "before clipping", "multi_token", True),
    ("tokens_per_s", "speed", "tokens per second", "vision", True),
    ("router/max_load", "router balance", "most loaded expert over the mean, worst layer; 1 = even", "audio", True),
)


def training_curves(run: RunRecord) -> Html:
    """Losses of every modality that was trained, then the numbers of `OTHERS`. Needs at least one step."""
    steps = run.series("step")
    skipped = steps[np.array([bool(m.get("skipped")) for m in run.metrics])]
    figures = [_loss_figure(run, steps, name, skipped) for name in ("total", *UNITS)]
    for key, name, told, colour, noisy in OTHERS:
        values = run.series(key)
        if np.isfinite(values).any():
            figures.append(_figure(name, told, line_chart(steps, [Curve(values, COLOURS[colour], noisy=noisy)])))
    layers = run.series("elastic/layers")
    if np.isfinite(layers).any() and np.nanmin(layers) != np.nanmax(layers):
        figures.append(_figure("layers executed", "elastic training", line_chart(steps, [Curve(layers, COLOURS["total"])])))
    return el("div", figures, class_="charts")


def accuracy_curves(run: RunRecord) -> Html | None:
    """Accuracy over steps; None when the run was evaluated only once."""
    known = {**run.evaluated, run.step: run.evaluation}
    if len(known) < 2:
        return None
    figures = []
    for kind in KINDS:
        rows = (f"text_to_{kind}", f"{kind}_to_text")
        values = [np.array([_accuracy(evaluation, row) for evaluation in known.values()]) for row in rows]
        if any(np.isfinite(v).sum() > 1 for v in values):
            curves = [Curve(v, colour, direction_name(row), noisy=False)
                      for v, colour, row in zip(values, (COLOURS[kind], COLOURS["total"]), rows, strict=True)]
            figures.append(_figure(kind, "", line_chart(np.array(list(known)), curves, size=NARROW), curves))
    return Html(el("h3", "accuracy while training") + el("div", figures, class_="charts three")) if figures else None


def _accuracy(evaluation: dict, row: str) -> float:
    value = number(dig(evaluation, f"{row}.accuracy"))
    return np.nan if value is None else value


def _loss_figure(run: RunRecord, steps: np.ndarray, name: str, skipped: np.ndarray) -> Html | None:
    values, second = _losses(run, name), _losses(run, "multi_token")
    if not np.isfinite(values).any():
        return None
    two = name == "text" and np.isfinite(second).any()
    curves = [Curve(values, COLOURS[name], "next token" if two else "")]
    curves += [Curve(second, COLOURS["multi_token"], NAMES["multi_token"])] if two else []
    held = dig(run.evaluation, "loss")
    marginal, end = number(dig(held, f"marginal/{name}")), number(dig(held, name))
    chart = line_chart(steps, curves, {"marginal entropy": marginal} if marginal else {}, [] if end is None else [end], skipped)
    return _figure(f"loss, {NAMES[name]}", UNITS.get(name, "weighted sum"), chart, curves)


def _losses(run: RunRecord, name: str) -> np.ndarray:
    """A step without any target of a modality logs exactly 0, which is no loss."""
    values = run.series(f"loss/{name}")
    return np.where(values == 0, np.nan, values)


def _figure(name: str, told: str, chart: Html, curves: Sequence[Curve] = ()) -> Html:
    keys = [el("span", el("i", style=f"background:{curve.colour}"), curve.label, class_="key") for curve in curves if curve.label]
    return el("figure", el("figcaption", el("b", name), told, keys), chart, class_="card")
