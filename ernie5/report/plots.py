"""Line charts as inline SVG: every step thin, the running mean bold, reference levels dashed. They take the colours of the page.

    smooth(x)_i = mean of the finite values of x within a window of n / 60 steps around i
Ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

import numpy as np

from ernie5.report.html import Html

COLOURS = {"total": "#7a8490", "text": "#4f6fd8", "vision": "#12988a", "audio": "#d67d2c",
           "image": "#12988a", "video": "#a4568f", "multi_token": "#9a7fd1"}
INK, GRID = "#010203", "#010204"  # stand for the page's colours until the SVG is part of it
DASHES = (0, (4, 3))
MAX_POINTS = 600
WIDE, NARROW = (4.4, 1.85), (3.5, 2.1)  # inches: half of the page, a third


@dataclass(frozen=True)
class Curve:
    """Values over steps; nan = no value. A `noisy` one is drawn thin, with its running mean. `label` is for the key beside the chart."""

    values: np.ndarray
    colour: str
    label: str = ""
    noisy: bool = True


def line_chart(steps: np.ndarray, curves: Sequence[Curve], levels: Mapping[str, float] | None = None, dots: Sequence[float] = (),
               marks: np.ndarray | None = None, size: tuple[float, float] = WIDE) -> Html:
    """`levels`: dashed horizontal lines by name. `dots`: values at the last step. `marks`: steps with a red mark at the bottom."""
    def paint(axes: Any) -> None:
        for curve in curves:
            if curve.noisy:
                axes.plot(*thin(steps, curve.values), color=curve.colour, linewidth=0.7, alpha=0.35)
            line = smoothed(curve.values) if curve.noisy else curve.values
            axes.plot(*thin(steps, line), color=curve.colour, linewidth=1.7)
        for name, level in (levels or {}).items():
            axes.axhline(level, color=INK, linewidth=0.9, linestyle=DASHES)
            axes.annotate(name, (1, level), xycoords=("axes fraction", "data"), xytext=(-2, 2.5), textcoords="offset points", ha="right",
                          fontsize=7.5)
        if dots:
            axes.plot([steps[-1]] * len(dots), list(dots), "D", color=curves[0].colour, markersize=4.5, clip_on=False, zorder=5)
        if marks is not None and len(marks):
            axes.plot(marks, np.zeros(len(marks)), "|", color="#c8443f", markersize=9, clip_on=False)
        _dress(axes, steps, curves, [*(levels or {}).values(), *dots])

    return draw(paint, size)


def draw(paint: Callable[[Any], None], size: tuple[float, float]) -> Html:
    """What `paint(axes)` makes of empty matplotlib axes, as SVG in the page's look. `INK` and `GRID` become colours of the page."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    settings: Any = {"svg.fonttype": "none", "svg.hashsalt": "ernie5", "font.size": 8, "text.color": INK, "axes.labelcolor": INK,
                "xtick.color": INK, "ytick.color": INK, "axes.unicode_minus": False, "text.parse_math": False}
    with matplotlib.rc_context(settings):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        axes = figure.add_subplot()
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(GRID)
        axes.grid(axis="y", color=GRID, linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(length=0)
        paint(axes)
        file = StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return _inline(file.getvalue())


def smoothed(values: np.ndarray) -> np.ndarray:
    """The running mean of the docstring; nan where a window holds no value."""
    finite, half = np.isfinite(values), max(1, len(values) // 120)
    window = np.ones(2 * half + 1)
    counts = np.convolve(finite, window)[half:-half]
    sums = np.convolve(np.where(finite, values, 0.0), window)[half:-half]
    return np.divide(sums, counts, out=np.full(len(values), np.nan), where=counts > 0)


def thin(steps: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """At most `MAX_POINTS` finite points: of every stretch its lowest and its highest, so that no spike is lost."""
    keep = np.flatnonzero(np.isfinite(values))
    if len(keep) > MAX_POINTS:
        parts = np.array_split(keep, MAX_POINTS // 2)
        keep = np.array([i for part in parts for i in sorted((part[values[part].argmin()], part[values[part].argmax()]))])
    return steps[keep], values[keep]


def _dress(axes, steps: np.ndarray, curves: Sequence[Curve], more: Sequence[float]) -> None:
    """From zero to a little above what matters; single spikes of the thin line may leave the picture."""
    finite = [c.values[np.isfinite(c.values)] for c in curves]
    tops = [np.quantile(v, 0.995) for v in finite if len(v)] + list(more)
    top = max(tops, default=1.0)
    axes.set_ylim(0, 1.1 * top if top > 0 else 1.0)
    axes.set_xlim(min(steps[0], 0), max(steps[-1], steps[0] + 1))
    axes.locator_params(axis="y", nbins=5)
    axes.locator_params(axis="x", nbins=6, integer=True)
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    if top >= 2000:
        axes.yaxis.set_major_formatter(lambda y, _: f"{y:,.0f}")


def _inline(svg: str) -> Html:
    """The `<svg>` alone, without ids that would repeat on the page and without a style that would rule the whole page."""
    svg = svg[svg.index("<svg"):]
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[A-Za-z.0-9]+_\d+"', "", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1), count=1)
    svg = svg.replace("<svg", '<svg role="img" stroke-linejoin="round"', 1)
    return Html(svg.replace(INK, "currentColor").replace(GRID, "var(--grid)"))
