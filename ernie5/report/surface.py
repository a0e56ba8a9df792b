"""The sub-models in the report, all of it from elastic.json: what each costs and how much worse it predicts, and which are worth taking.

    total loss over active parameters, over all parameters, over decoding speed; a line along the points that no other beats
    colour = layers, marker = experts per layer, size = experts per token, ring = the full model
Ours (the report gives tables 9-11 and one row of table 12).
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import numpy as np

from ernie5.analysis.trade_off import Point, full_point, pareto, size_of
from ernie5.report.facts import short
from ernie5.report.html import Html, el
from ernie5.report.plots import INK, draw
from ernie5.report.read import RunRecord, dig, number
from ernie5.report.tables import bar, percent

LAYERS = ("#4f6fd8", "#12988a", "#d67d2c", "#a4568f", "#7a8490")
EXPERTS = (("o", "●"), ("s", "■"), ("^", "▲"), ("D", "◆"), ("v", "▼"))
NUMBERS = ("layers", "experts", "top_k", "active", "total", "tokens_per_s", "loss.total")
LARGE, SMALL = (9.2, 3.1), (4.4, 2.3)  # inches: the whole page, half of it
COSTS = (("active", "active parameters", True), ("total", "all parameters", True), ("tokens_per_s", "decoding speed, tokens/s", False))


def submodels(run: RunRecord) -> Html | None:
    """The section; before a grid, the command that measures one; None for a run that is not elastic and was not measured."""
    title, points = el("h2", "Sub-models"), finished(run.surface)
    if not points:
        elastic = any(number(dig(run.recipe, f"elastic.{axis}.probability")) for axis in ("depth", "width", "sparsity"))
        grid = el("code", f"ernie5 eval {shlex.quote(str(run.folder.path))} --grid")
        note = el("p", "Not measured yet: ", grid, " measures the smaller models inside this one and draws the trade-off.", class_="note")
        return Html(title + note) if elastic or run.surface else None
    step, samples = number(run.surface.get("step")), number(run.surface.get("n"))
    lead = (f"Every point is a smaller model cut out of this one after step {step or 0:,.0f}, nothing retrained: held-out loss on "
            f"{samples or 0:,.0f} samples of every source, weighted as in training. The line joins those that no other point beats.")
    first, *others = COSTS
    large = _figure(points, *first, LARGE, _keys(points))
    small = [_figure(points, *cost, SMALL, []) for cost in others]
    return Html(title + el("p", lead, class_="lead") + large + el("div", small, class_="charts") + _table(run, points))


def finished(surface: dict[str, Any]) -> list[Point]:
    """The points that have every number and a verdict; [] while there is none, or where the file is damaged."""
    listed = surface.get("points")
    points = [p for p in listed if isinstance(p, dict)] if isinstance(listed, list) else []
    whole: list[Point] = [p for p in points if "pareto" in p and all(number(dig(p, key)) is not None for key in NUMBERS)]
    return whole if len(whole) > 1 else []


def _figure(points: Sequence[Point], cost: str, name: str, less: bool, size: tuple[float, float], keys: list[Html]) -> Html:
    told = f"lower {'left' if less else 'right'} is better"
    chart = draw(lambda axes: _paint(axes, points, cost, less), size)
    return el("figure", el("figcaption", el("b", f"loss over {name}"), told, keys), chart, class_="card")


def _paint(axes: Any, points: Sequence[Point], cost: str, less: bool) -> None:
    x, y = np.array([p[cost] for p in points], dtype=float), np.array([p["loss"]["total"] for p in points])
    best = np.flatnonzero(pareto(points, cost, less))
    best = best[np.argsort(x[best], kind="stable")]
    axes.plot(x[best], y[best], color=INK, linewidth=1.2, alpha=0.55, zorder=1)
    for i in np.argsort([-p["top_k"] for p in points], kind="stable"):  # small ones on top
        on_front = i in best
        axes.scatter(x[i], y[i], s=_area(points, points[i]), marker=_marker(points, points[i])[0], color=_colour(points, points[i]),
                     alpha=1.0 if on_front else 0.42, linewidths=0, zorder=3 if on_front else 2)
    full = points.index(full_point(points))
    axes.scatter(x[full], y[full], s=2.6 * _area(points, points[full]), facecolors="none", edgecolors=INK, linewidths=1.1, zorder=4)
    left = x[full] < (x.min() + x.max()) / 2
    axes.annotate("full model", (x[full], y[full]), xytext=(-8 if left else 8, -11), textcoords="offset points",
                  ha="left" if left else "right", va="top", fontsize=8)
    axes.margins(x=0.05, y=0.2)
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6)
    axes.xaxis.set_major_formatter(lambda value, _: short(value))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.2f}")


def _values(points: Sequence[Point], key: str) -> list[int]:
    return sorted({p[key] for p in points}, reverse=True)


def _colour(points: Sequence[Point], point: Point) -> str:
    return LAYERS[_values(points, "layers").index(point["layers"]) % len(LAYERS)]


def _marker(points: Sequence[Point], point: Point) -> tuple[str, str]:
    return EXPERTS[_values(points, "experts").index(point["experts"]) % len(EXPERTS)]


def _area(points: Sequence[Point], point: Point) -> float:
    """Square points: 18 for the smallest top-k, 90 for the largest."""
    values = _values(points, "top_k")
    return 90.0 if len(values) == 1 else 18 + 72 * (1 - values.index(point["top_k"]) / (len(values) - 1))


def _keys(points: Sequence[Point]) -> list[Html]:
    """What colours, markers and sizes mean."""
    found = [el("span", el("i", class_="dot", style=f"background:{LAYERS[i % len(LAYERS)]}"), f"{n} layers", class_="key")
             for i, n in enumerate(_values(points, "layers"))]
    found += [el("span", f"{EXPERTS[i % len(EXPERTS)][1]} {n} experts", class_="key") for i, n in enumerate(_values(points, "experts"))]
    sizes = ", ".join(str(n) for n in _values(points, "top_k"))
    found.append(el("span", f"large to small: top-{sizes}", class_="key"))
    return [Html(f" {key}") for key in found]  # the space lets a narrow screen break the line


def _table(run: RunRecord, points: Sequence[Point]) -> Html:
    """The points on the front over active parameters, largest first, and how to take each."""
    full = full_point(points)
    rows = [_row(run, p, full) for p in sorted(points, key=lambda p: -p["active"]) if p["pareto"]]
    head = el("tr", el("th", "sub-model"), el("th", "loss", class_="n"), el("th", "against full", class_="n"), el("th", "active of full"),
              el("th", "active", class_="n"), el("th", "all", class_="n"), el("th", "tokens/s", class_="n"), el("th", "take it"))
    return el("div", el("table", el("thead", head), el("tbody", rows)), class_="card table")


def _row(run: RunRecord, point: Point, full: Point) -> Html:
    layers, experts, top_k = size_of(point)
    worse = point["loss"]["total"] / full["loss"]["total"] - 1
    share = point["active"] / full["active"]
    return el(
        "tr",
        el("td", f"{layers} × {experts}, top-{top_k}", class_="name"),
        el("td", f"{point['loss']['total']:.3f}", class_="n", data_label="loss"),
        el("td", "–" if point is full else f"{100 * worse:+.1f}\u202f%", class_="n", data_label="against full"),
        el("td", bar(share, None, None), class_="barred"),
        el("td", percent(round(share, 3)), class_="n", data_label="active"),
        el("td", percent(round(point["total"] / full["total"], 3)), class_="n", data_label="all"),
        el("td", percent(round(point["tokens_per_s"] / full["tokens_per_s"], 3)), class_="n", data_label="tokens/s"),
        el("td", el("code", [[el("span", part, style="white-space:nowrap"), " "] for part in command(run, point, full)]), class_="full"),
    )


def command(run: RunRecord, point: Point, full: Point) -> list[str]:
    """The command that exports this point, in parts that stay on one line."""
    step = run.surface.get("step")
    spec = str(run.folder.path) + ("" if step == run.checkpoint_step else f"@{step}")
    options = [f"--{key.replace('_', '-')} {point[key]}" for key in ("layers", "experts", "top_k") if point[key] != full[key]]
    return ["ernie5 export", shlex.quote(spec), "OUT", *options]
