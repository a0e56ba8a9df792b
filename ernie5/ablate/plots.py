"""The drawings of an ablation page: curves of the variants over steps, and one row of dots a variant, a dot a seed. Ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ernie5.report.html import Html, el
from ernie5.report.plots import DASHES, INK, WIDE, draw
from ernie5.report.tables import NARROW

PALETTE = ("#7a8490", "#4f6fd8", "#d67d2c", "#12988a", "#a4568f", "#c8443f", "#6b9c2f", "#3aa0c9", "#9a7fd1", "#b08a2e")
SETTLED = 0.15  # the first part of training does not decide how high a chart is


@dataclass(frozen=True)
class Line:
    """One variant: values over steps, ascending; nan = no value."""

    steps: np.ndarray
    values: np.ndarray
    colour: str


@dataclass(frozen=True)
class DotRow:
    """One variant: its value for every seed, and the distance of each from the first variant's, where both are known."""

    name: str
    values: Sequence[float]
    distances: Sequence[float]
    colour: str


def colour_of(index: int) -> str:
    """Of the variant with this number; grey for the first one, which the others are compared with."""
    return PALETTE[index] if index < len(PALETTE) else PALETTE[1 + (index - 1) % (len(PALETTE) - 1)]


def line_plot(lines: Sequence[Line], percent: bool = False) -> Html | None:
    """Curves over steps; with `percent` they are shares, drawn in per cent around 0. None without two points to join."""
    if not any(np.isfinite(line.values).sum() > 1 for line in lines):
        return None
    scale = 100 if percent else 1
    left, right = min(line.steps[0] for line in lines), max(line.steps[-1] for line in lines)
    low, high = _limits(lines, left + SETTLED * (right - left), percent)

    def paint(axes: Any) -> None:
        if percent:
            axes.axhline(0, color=INK, linewidth=0.9, linestyle=DASHES)
            axes.yaxis.set_major_formatter(lambda y, _: f"{y:+.3g}{NARROW}%" if y else "0")
        for line in lines:
            axes.plot(line.steps, scale * line.values, color=line.colour, linewidth=1.6)
        axes.set_ylim(scale * low, scale * high)
        axes.set_xlim(left, right)
        axes.locator_params(axis="y", nbins=5)
        axes.locator_params(axis="x", nbins=6, integer=True)
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")

    return draw(paint, WIDE)


def dot_plot(rows: Sequence[DotRow], unit: str) -> Html:
    """A row a variant: a dot a seed and a bar at the mean; on the left the values, on the right the distances from the first variant.

    `unit` of the distances: "%" for shares, "" for plain differences.
    """
    values = _tracks([row.values for row in rows], rows, float(np.mean(rows[0].values)), "")
    drawn = [[el("span", row.name, class_="who"), values[i]] for i, row in enumerate(rows)]
    foot = [el("span"), values[-1]]
    if any(len(row.distances) > 1 for row in rows[1:]):
        distances = _tracks([row.distances for row in rows], rows, 0.0, unit)
        drawn = [[*parts, distances[i]] for i, parts in enumerate(drawn)]
        foot.append(distances[-1])
    return el("div", drawn, foot, class_="dots two" if len(foot) > 2 else "dots")


def _tracks(found: Sequence[Sequence[float]], rows: Sequence[DotRow], first: float, unit: str) -> list[Html]:
    """A track a row, and the axis below them; `first` is the place of the dashed line."""
    scale = 100 if unit else 1
    every = [scale * value for values in found for value in values]
    low, high = _widened(min([scale * first, *every]), max([scale * first, *every]))

    def place(value: float) -> str:
        return f"left:{100 * (value - low) / (high - low):.2f}%"

    at = ticks(low, high, 2 if unit else 3)
    grid = [el("i", class_="grid", style=place(tick)) for tick in at] + [el("i", class_="first", style=place(scale * first))]
    tracks = []
    for row, values in zip(rows, found, strict=True):
        dots = [el("i", class_="dot", style=f"{place(scale * value)};background:{row.colour}", title=f"{scale * value:.5g}{unit}")
                for value in values]
        mean = el("i", class_="mean", style=f"{place(scale * float(np.mean(values)))};background:{row.colour}") if len(values) else None
        tracks.append(el("div", grid, mean, dots, class_="track"))
    digits = max(0, min(6, 1 - math.floor(math.log10(high - low))))
    sign = "+" if first == 0 else ""
    labels = [el("span", f"{tick:{sign}.{digits}f}{NARROW}{unit}" if tick or not sign else "0", style=place(tick)) for tick in at]
    return [*tracks, el("div", labels, class_="axis")]


def ticks(low: float, high: float, wanted: int) -> list[float]:
    """About `wanted` round numbers within the limits: steps of 1, 2 or 5 times a power of ten. `low` < `high`."""
    rough = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(rough))
    step = min((m * power for m in (1, 2, 5, 10)), key=lambda s: abs(math.log(s / rough)))
    return [round(i * step, 12) for i in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _limits(lines: Sequence[Line], settled: float, percent: bool) -> tuple[float, float]:
    """What the curves span after their first part."""
    late = np.concatenate([line.values[(line.steps >= settled) | (len(line.steps) < 10)] for line in lines])
    late = late[np.isfinite(late)]
    late = late if len(late) else np.concatenate([line.values[np.isfinite(line.values)] for line in lines])
    low, high = np.quantile(late, (0.01, 0.99) if percent else (0.0, 1.0)).tolist()  # a spike may leave the picture of distances
    return _widened(min(low, -0.005), max(high, 0.005)) if percent else _widened(low, high)


def _widened(low: float, high: float) -> tuple[float, float]:
    margin = 0.08 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin
