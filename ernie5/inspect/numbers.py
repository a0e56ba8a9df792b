"""Quantities as people read them: units, rows of quantiles, histograms.

Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ernie5.report.html import Html
from ernie5.report.plots import draw

BINS = 36


def plain(value: float) -> str:
    """1234.5 -> `1,234`; small ones with three digits."""
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def as_bytes(value: float) -> str:
    """1234567 -> `1.23 MB`."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} B"


def as_seconds(value: float) -> str:
    """0.85 -> `0.85 s`, 75 -> `1:15 min`, 7300 -> `2.03 h`."""
    if value >= 3600:
        return f"{value / 3600:,.3g} h"
    return f"{value:.3g} s" if value < 60 else f"{int(value // 60)}:{int(value % 60):02d} min"


def as_pixels(value: float) -> str:
    """262144 -> `0.262 Mpx`."""
    return f"{value / 1e6:.3g} Mpx" if value >= 1e5 else f"{value:,.0f} px"


def as_hertz(value: float) -> str:
    """16000 -> `16 kHz`."""
    return f"{value / 1000:.4g} kHz"


UNITS: dict[str, Callable[[float], str]] = {
    "bytes": as_bytes, "seconds": as_seconds, "pixels": as_pixels, "sample rate": as_hertz, "characters": plain, "words": plain,
    "tokens": plain, "speaker numbers": plain, "aspect": lambda value: f"{value:.3g}",
}


def histogram(values: np.ndarray, quantity: str, colour: str, mark: tuple[str, float] | None = None) -> Html:
    """How often which value occurs; on a log scale where the largest is far above the least. `mark`: a dashed line by name."""
    low, high = float(values.min()), float(values.max())
    if high <= low:
        low, high = low - max(0.5, 0.05 * abs(low)), high + max(0.5, 0.05 * abs(high))
    logarithmic = low > 0 and high / low > 50
    whole = bool((values == np.round(values)).all())
    if logarithmic:
        edges = np.geomspace(low, high, BINS + 1)
    elif whole and high - low < 2 * BINS:
        edges = np.arange(np.floor(low) - 0.5, high + 1)
    else:
        edges = np.linspace(low, high, BINS + 1)
    counts, edges = np.histogram(values, edges)
    if logarithmic and whole:  # narrow bins that hold no whole number are no gaps in the data
        full = np.flatnonzero(counts)
        edges = np.append(edges[full], edges[-1]) if full[0] == 0 and edges[0] * (edges[1] / edges[0] - 1) < 0.5 else edges
        counts = np.histogram(values, edges)[0]
    unit = UNITS[quantity]

    def paint(axes: Any) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

        axes.bar(edges[:-1], counts, np.diff(edges), align="edge", color=colour, linewidth=0.5, edgecolor="#ffffff")
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlim(edges[0], edges[-1])
        axes.xaxis.set_major_locator(FixedLocator(_ticks(edges[0], edges[-1], logarithmic)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: unit(x)))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:,.0f}"))
        axes.locator_params(axis="y", nbins=4, integer=True)
        if mark is not None and edges[0] <= mark[1] <= edges[-1]:
            axes.axvline(mark[1], color="#c8443f", linewidth=1, linestyle=(0, (4, 3)))
            axes.annotate(mark[0], (mark[1], 1), xycoords=("data", "axes fraction"), xytext=(-4, -8), textcoords="offset points",
                          ha="right", fontsize=7.5)

    return draw(paint, (3.5, 1.75))


def _ticks(low: float, high: float, logarithmic: bool) -> list[float]:
    """Three to five round numbers between low and high."""
    if logarithmic:
        powers = range(int(np.floor(np.log10(low))), int(np.ceil(np.log10(high))) + 1)
        found = [m * 10.0**p for p in powers for m in (1, 2, 5) if low <= m * 10.0**p <= high]
        return found[:: max(1, -(-len(found) // 5))]
    size = (high - low) / 4
    base = 10.0 ** np.floor(np.log10(size))
    step = next(m * base for m in (1, 2, 2.5, 5, 10) if m * base >= size)
    return [float(t) for t in np.arange(np.ceil(low / step) * step, high + step * 1e-6, step)]
