"""Pieces that the sections of the page share: tiles, tables, charts over rate, media as data. Ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from typing import Any

import numpy as np
from einops import rearrange
from PIL import Image
from torch import Tensor

from ernie5.measure.table import shown
from ernie5.report.html import Html, data_uri, el
from ernie5.report.plots import INK, draw

OURS = "#3d6fd6"
COLOURS = {"jpeg": "#d67d2c", "webp": "#12988a", "pca": "#a4568f", "h264": "#d67d2c", "opus": "#d67d2c", "mp3": "#12988a"}
NAMES = {
    "jpeg": "JPEG", "jpeg_small": "JPEG, shrunk", "jpeg_lowest": "JPEG, lowest", "webp": "WebP", "webp_small": "WebP, shrunk",
    "webp_lowest": "WebP, lowest", "pca": "PCA of blocks", "h264": "H.264", "h264_small": "H.264, shrunk", "h264_lowest": "H.264, lowest",
    "opus": "Opus", "opus_6k": "Opus, 6 kbit/s", "mp3": "MP3",
}
CHART = (4.6, 2.5)  # inches


@dataclass(frozen=True)
class Column:
    """A figure of the table: its key in a row, name, digits, and whether more is better (None: neither)."""

    key: str
    name: str
    digits: int
    more: bool | None


@dataclass(frozen=True)
class Line:
    """One row of the table; `kind` is its look: `ours`, `part` or "". """

    name: str
    row: dict
    kind: str = ""
    note: str = ""


@dataclass(frozen=True)
class Points:
    """Rate and distortion of one method, joined by a line or not."""

    name: str
    colour: str
    at: Sequence[tuple[float, float | None]]
    joined: bool = True
    marker: str = "o"


def tiles(values: Sequence[tuple[str, str, str]]) -> Html:
    """(value, unit, name) each."""
    return el("div", [el("div", el("b", value, el("small", unit) if unit else None), el("span", name)) for value, unit, name in values],
              class_="tiles card")


def figures_table(columns: Sequence[Column], lines: Sequence[Line]) -> Html:
    """The best of whole methods (not of prefixes, and not where a method costs another rate) stands bold."""
    head = el("thead", el("tr", el("th"), [el("th", c.name, class_="n") for c in columns]))
    best = {c.key: _best([line.row.get(c.key) for line in lines if line.kind != "part" and not line.note], c.more) for c in columns}
    rows = []
    for line in lines:
        cells = [el("td", shown(line.row.get(c.key), c.digits), data_label=c.name,
                    class_="n best" if line.kind != "part" and not line.note and line.row.get(c.key) is not None
                    and line.row[c.key] == best[c.key] else "n") for c in columns]
        name = el("td", line.name, el("small", line.note) if line.note else None, class_="name")
        rows.append(el("tr", name, cells, class_=line.kind or None))
    return el("div", el("table", head, el("tbody", rows)), class_="card table")


def rate_chart(title: str, told: str, rate: str, methods: Sequence[Points]) -> Html:
    """Distortion over rate on a log scale; every method named beside the chart."""
    def paint(axes: Any) -> None:
        for method in methods:
            points = [(x, y) for x, y in method.at if x > 0 and y is not None]
            if points:
                axes.plot(*zip(*points, strict=True), method.marker, color=method.colour, markersize=4.5 if method.joined else 7,
                          linestyle="-" if method.joined else "none", linewidth=1.7, markeredgecolor="white", markeredgewidth=0.6)
        axes.set_xscale("log")
        low, high = axes.get_xlim()
        ticks = [m * 10.0**e for e in range(-4, 7) for m in (1, 2, 5) if low <= m * 10.0**e <= high]
        axes.set_xticks(ticks[:: max(1, len(ticks) // 6)])
        axes.minorticks_off()
        axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.10g}")
        axes.set_xlabel(rate)
        axes.locator_params(axis="y", nbins=6)

    keys = [key(method.name, method.colour, round_=not method.joined) for method in methods if method.at]
    return el("figure", el("figcaption", el("b", title), told, keys), draw(paint, CHART), class_="card")


def prefix_chart(title: str, told: str, axis: str, names: Sequence[str], values: Sequence[float | None], colour: str = OURS) -> Html:
    """One figure after each prefix."""
    def paint(axes: Any) -> None:
        found = [(i, v) for i, v in enumerate(values) if v is not None]
        axes.plot(*zip(*found, strict=True), "-o", color=colour, linewidth=1.7, markersize=4.5, markeredgecolor="white",
                  markeredgewidth=0.6)
        for i, v in found:
            axes.annotate(f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}", (i, v), xytext=(0, 6), textcoords="offset points", ha="center",
                          fontsize=7.5, color=INK)
        axes.set_xticks(range(len(names)), names)
        axes.set_xlabel(axis)
        axes.margins(x=0.06, y=0.18)
        axes.locator_params(axis="y", nbins=5)

    return el("figure", el("figcaption", el("b", title), told), draw(paint, CHART), class_="card")


def key(name: str, colour: str, round_: bool = False) -> Html:
    """A colour and what it stands for."""
    return el("span", el("i", class_="dot" if round_ else None, style=f"background:{colour}"), name, class_="key")


def picture_uri(picture: Tensor, exact: bool = True, longest: int | None = None) -> str:
    """uint8 `c h w` as a data URI: lossless, or a small one for a strip."""
    image = Image.fromarray(rearrange(picture, "c h w -> h w c").contiguous().numpy())
    if longest and max(image.size) > longest:
        image.thumbnail((longest, longest))
    file = BytesIO()
    if max(image.size) <= 96:
        image.save(file, "PNG", optimize=True)
        return data_uri("image/png", file.getvalue())
    image.save(file, "WEBP", lossless=exact, quality=80, method=4)
    return data_uri("image/webp", file.getvalue())


def heat(values: np.ndarray, colour: str = OURS) -> str:
    """`rows columns` in 0..1 as a picture of one pixel a value: pale = 0; transparent where it is nan."""
    strong = np.array([int(colour[i:i + 2], 16) for i in (1, 3, 5)], float)
    share = np.nan_to_num(values)[..., None].clip(0, 1)
    pixels = np.concatenate([236 + share * (strong - 236), np.where(np.isfinite(values), 255, 0)[..., None]], -1)
    file = BytesIO()
    Image.fromarray(pixels.round().astype(np.uint8), "RGBA").save(file, "PNG")
    return data_uri("image/png", file.getvalue())


def _best(values: Sequence[float | None], more: bool | None) -> float | None:
    known = [v for v in values if v is not None]
    return None if more is None or len(known) < 2 else max(known) if more else min(known)
