"""Reading the trade-off surface: its Pareto front, and the best measured point within a budget.

    pareto:  no other point has at most as many active parameters and at most the loss, and one of both smaller
    budget:  `active=50%` `active=1.2M` `total=40%` `tokens_per_s=120%`; several with commas; % of the full model; lowest total loss wins

active and total are at most, tokens_per_s is at least. Ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ernie5.run.folder import RunFolder

SURFACE = "elastic.json"
AT_MOST, AT_LEAST = ("active", "total"), ("tokens_per_s",)
UNITS = {"": 1.0, "k": 1e3, "M": 1e6, "B": 1e9}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([%kMB]?)", re.ASCII)

Point = Mapping[str, Any]


def size_of(point: Point) -> tuple[int, int, int]:
    """(layers, experts, top_k) of a measured point."""
    return point["layers"], point["experts"], point["top_k"]


def pareto(points: Sequence[Point], cost: str = "active", least: bool = True) -> list[bool]:
    """Which points no other beats in both `cost` (less is better, more when `least` is False) and total loss. Equal points all stay."""
    sign = 1 if least else -1
    pairs = [(sign * p[cost], p["loss"]["total"]) for p in points]
    return [not any(a <= cost_ and b <= loss and (a, b) != (cost_, loss) for a, b in pairs) for cost_, loss in pairs]


def full_point(points: Sequence[Point]) -> Point:
    """The full model among the points: the largest in every number."""
    return max(points, key=size_of)


def pick(points: Sequence[Point], budget: str) -> Point:
    """The point of lowest total loss within the budget. ValueError for a budget that nothing meets or that cannot be read."""
    full = full_point(points)
    within = list(points)
    for part in budget.split(","):
        key, limit = parse(part, full)
        less = key in AT_MOST
        left = [p for p in within if (p[key] <= limit if less else p[key] >= limit)]
        if not left:
            best = (min if less else max)(within, key=lambda p: p[key])
            among = "" if len(within) == len(points) else " that the rest of the budget allows"
            raise ValueError(
                f"--budget {budget}: no measured point{among} has {key} {'<=' if less else '>='} {limit:,.0f}; the "
                f"{'smallest' if less else 'fastest'} is {describe(best)} with {best[key]:,.0f} ({best[key] / full[key]:.1%} of the full "
                "model). Loosen the budget, or measure other points: ernie5 eval RUN_DIR --grid --layers … --experts … --top-k …"
            )
        within = left
    return min(within, key=lambda p: (p["loss"]["total"], p["active"], p["total"]))


def parse(part: str, full: Point) -> tuple[str, float]:
    """`active=50%` -> ("active", half of the full model's)."""
    key, _, amount = (word.strip() for word in part.partition("="))
    if key not in (*AT_MOST, *AT_LEAST):
        raise ValueError(f"--budget {part}: there is no budget {key!r}; use active, total or tokens_per_s, for example active=50%")
    match = _AMOUNT.fullmatch(amount)
    if not match:
        raise ValueError(f"--budget {part}: {amount!r} is no amount; write for example {key}=50% (of the full model) or {key}=1.2M")
    value, unit = float(match[1]), match[2]
    return key, value / 100 * full[key] if unit == "%" else value * UNITS[unit]


def describe(point: Point) -> str:
    """`4 layers, 8 experts, top-1`"""
    layers, experts, top_k = size_of(point)
    return f"{layers} layers, {experts} experts, top-{top_k}"


def read_surface(folder: RunFolder, step: int) -> dict[str, Any]:
    """The finished elastic.json of a run, measured at `step`. ValueError with the way out when there is none, or it is another step's."""
    path, again = folder.path / SURFACE, f"run `ernie5 eval {folder.path}@{step} --grid` first"
    surface = read_json(path)
    if surface is None:
        raise ValueError(f"{path} is missing: a budget is looked up in the measured grid; {again}")
    unfinished = [p for p in surface["points"] if "pareto" not in p]
    if unfinished or not surface["points"]:
        raise ValueError(f"{path} is unfinished ({len(unfinished)} points are still to be measured); {again}")
    if surface["step"] != step:
        raise ValueError(f"{path} was measured at step {surface['step']} and the checkpoint is that of step {step}; {again}, "
                         f"or export {folder.path}@{surface['step']}")
    return surface


def read_json(path: Path) -> dict[str, Any] | None:
    """A surface file, None where there is none; ValueError for one that is not readable."""
    try:
        surface = json.loads(path.read_bytes())
        if not all(isinstance(p, dict) and all(isinstance(p[k], int) for k in ("layers", "experts", "top_k")) for p in surface["points"]):
            raise ValueError("points")
        if not isinstance(surface["step"], int):
            raise ValueError("step")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(f"{path} is damaged; remove it and run `ernie5 eval {path.parent} --grid` again") from None
    return surface
