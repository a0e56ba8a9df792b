"""The tables of the page of `data inspect`: quantiles of quantities, and bars for counts. Ours."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from ernie5.inspect.numbers import UNITS, plain
from ernie5.inspect.survey import QUANTILES, Survey
from ernie5.report.html import Html, el, shorten
from ernie5.report.report import together

NAMES = {"aspect": "width / height", "bytes": "file size", "seconds": "length", "pixels": "height x width"}
SUMMED = ("bytes", "seconds", "characters", "words", "tokens")


def quantile_table(survey: Survey, rows: list[tuple[str, str]]) -> Html:
    """Least, 5 %, median, 95 %, most and sum of every quantity."""
    heads = ["least" if q == 0 else "most" if q == 1 else "median" if q == 0.5 else f"{100 * q:.0f} %" for q in QUANTILES]
    body = []
    for name, quantity in rows:
        unit = UNITS[quantity]
        label = name if quantity == "tokens" else NAMES.get(quantity, quantity)
        cells = [el("td", unit(value), class_="n", data_label=head)
                 for head, value in zip(heads, survey.quantiles(name, quantity), strict=True)]
        total = unit(sum(survey.numbers[name, quantity])) if quantity in SUMMED else "–"
        body.append(el("tr", el("td", label, class_="name"), cells, el("td", total, class_="n", data_label="together")))
    head = el("tr", el("th", ""), [el("th", h, class_="n") for h in heads], el("th", "together", class_="n"))
    return el("div", el("table", el("thead", head), el("tbody", body)), class_="card table")


def shares(counts: Mapping[str, int], what: str, most: int = 16) -> Html:
    """A bar for each name, the most frequent first."""
    total, top = sum(counts.values()), max(counts.values())
    rows = []
    for name, count in Counter(counts).most_common(most):
        fill = el("i", class_="got", style=f"left:0;width:{100 * count / top:.1f}%")
        rows.append(el("tr", el("td", shorten(name, 160), class_="name wrap"), el("td", el("div", fill, class_="bar"), class_="barred"),
                       el("td", plain(count), class_="n", data_label=what), el("td", f"{100 * count / total:.1f} %", class_="n")))
    more = el("p", f"{len(counts) - most} more", class_="lead more") if len(counts) > most else None
    head = el("tr", el("th", ""), el("th", ""), el("th", what, class_="n"), el("th", "share", class_="n"))
    return together(el("div", el("table", el("thead", head), el("tbody", rows)), class_="card table ranked"), more)
