"""The figures of a report: accuracy of every direction between chance and ceiling, held-out loss beside the entropy of its codes.

Ours.
"""

from __future__ import annotations

import math
from typing import Any

from ernie5.report.html import Html, el
from ernie5.report.read import DIRECTIONS, dig, number

NARROW = "\u202f"  # a thin space that does not break
UNITS = {"text": "nats per token", "vision": "nats per bit", "audio": "nats per code"}
NAMES = {"text": "text", "vision": "vision", "audio": "audio", "total": "all together", "multi_token": "second next token"}


def direction_name(row: str) -> str:
    """`text_to_image` -> `text → image`."""
    return row.replace("_to_", " → ")


def accuracy_table(evaluation: dict[str, Any]) -> Html | None:
    """One row a direction; None when there is none."""
    rows = [(name, evaluation[name]) for name in DIRECTIONS if number(dig(evaluation, f"{name}.accuracy")) is not None]
    if not rows:
        return None
    head = el("tr", el("th", "held-out combinations"), el("th", "accuracy"), el("th", "chance … ceiling"), el("th", "chance", class_="n"),
              el("th", "ceiling", class_="n"), el("th", "n", class_="n"), el("th", "each attribute (its ceiling)"))
    return el("div", el("table", el("thead", head), el("tbody", [_accuracy_row(name, row) for name, row in rows])), class_="card table")


def _accuracy_row(name: str, row: dict[str, Any]) -> Html:
    accuracy, n = float(row["accuracy"]), number(row.get("n"))
    chance, ceiling = number(row.get("chance")), number(row.get("ceiling"))
    error = f" ± {100 * math.sqrt(max(accuracy * (1 - accuracy), 0.0) / n):.1f}" if n else ""
    return el(
        "tr",
        el("td", direction_name(name), class_="name"),
        el("td", percent(accuracy), el("small", error), class_="big"),
        el("td", bar(accuracy, chance, ceiling), class_="barred"),
        el("td", percent(chance), class_="n", data_label="chance"),
        el("td", percent(ceiling), class_="n", data_label="ceiling"),
        el("td", "–" if n is None else f"{n:.0f}", class_="n", data_label="n"),
        el("td", _attributes(row), class_="full"),
    )


def _attributes(row: dict[str, Any]) -> Html:
    found, best = dig(row, "per_attribute"), dig(row, "ceiling_per_attribute")
    parts = []
    for name, value in (found if isinstance(found, dict) else {}).items():
        top = number(dig(best, name)) if isinstance(best, dict) else None
        parts.append(el("span", f"{name} ", el("b", percent(number(value))), f" ({percent(top)})" if top is not None else None))
    return el("div", parts, class_="parts")


def bar(value: float, low: float | None, high: float | None) -> Html:
    """0 to 1 from left to right: a pale band from `low` (grey tick) to `high` (dark tick), filled from `low` to `value`."""
    start, end = low or 0.0, 1.0 if high is None else high
    inside = [_span("reach", start, end), _span("got" if value >= start else "under", min(start, value), max(start, value))]
    inside += [_tick("tick", low)] if low is not None else []
    inside += [_tick("tick top", high)] if high is not None else []
    label = percent(value) if low is None and high is None else f"{percent(value)}, chance {percent(low)}, ceiling {percent(high)}"
    return el("div", inside, class_="bar", role="img", aria_label=label, title=label)


def loss_table(losses: dict[str, Any]) -> Html | None:
    """Held-out loss, the marginal entropy of the codes, and how far below it the model is."""
    rows = []
    for name, unit in UNITS.items():
        loss, marginal = number(losses.get(name)), number(losses.get(f"marginal/{name}"))
        if loss is None or not marginal:
            continue
        below = 1 - loss / marginal
        share = f"{abs(100 * below):.0f}{NARROW}% {'below' if below >= 0 else 'above'}"
        rows.append(el("tr", el("td", name, class_="name"), el("td", share, class_="big"), el("td", bar(max(below, 0.0), None, None),
                    class_="barred"), el("td", f"{loss:.3f}", class_="n", data_label="held-out loss"),
                    el("td", f"{marginal:.3f}", class_="n", data_label="marginal entropy"), el("td", unit)))
    if not rows:
        return None
    second = number(losses.get("multi_token"))
    note = f"The module that predicts the token after next: {second:.3f} nats per token." if second else None
    head = el("tr", el("th", "modality"), el("th", "against the marginal"), el("th", "share explained by context"),
              el("th", "loss", class_="n"), el("th", "marginal entropy", class_="n"), el("th", "unit"))
    table = el("div", el("table", el("thead", head), el("tbody", rows)), class_="card table")
    return Html(table + (el("p", note, class_="lead more") if note else ""))


def percent(share: float | None) -> str:
    """0.834 -> `83.4 %`; a dash for None; no decimals for a round 0 or 100."""
    if share is None:
        return "–"
    return f"{100 * share:.0f}{NARROW}%" if share in (0.0, 1.0) else f"{100 * share:.1f}{NARROW}%"


def _span(name: str, start: float, end: float) -> Html:
    left, right = (100 * min(max(x, 0.0), 1.0) for x in (start, end))
    return el("i", class_=name, style=f"left:{left:.1f}%;width:{max(right - left, 0.0):.1f}%")


def _tick(name: str, at: float) -> Html:
    return el("i", class_=name, style=f"left:{100 * min(max(at, 0.0), 1.0):.1f}%")
