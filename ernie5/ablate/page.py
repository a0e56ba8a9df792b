"""`ablation.html`: the question, the answer as a table, every seed as a dot, and how the variants got there. One file, no script. Ours."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ernie5.ablate.curves import heldout_figures, training_figures
from ernie5.ablate.plan import Plan
from ernie5.ablate.plots import DotRow, colour_of, dot_plot
from ernie5.ablate.screen import positions_of
from ernie5.ablate.table import GAP, difference_text, metric_name, plain
from ernie5.report.facts import short
from ernie5.report.html import Html, el
from ernie5.report.report import POLICY, together
from ernie5.report.style import STYLE
from ernie5.report.tables import NARROW, UNITS
from ernie5.run.files import atomic_write
from ernie5.run.folder import RunFolder

GROUPS = {"loss": "Held-out loss", "accuracy": "Accuracy", "router": "Router balance"}
LOWER_IS_BETTER = ("loss/", "router/")
MORE_STYLE = """
.scroll { overflow-x: auto; }
td.label { white-space: nowrap; } td.label:first-child { font-weight: 600; }
td.label i, .legend i { display: inline-block; width: 9px; height: 9px; border-radius: 99px; margin-right: 8px; }
td.n b { font-weight: 600; font-size: 15px; } td.n small { color: var(--soft); font-size: 12px; margin-left: 3px; }
td.n div { font-size: 12px; line-height: 1.35; color: var(--soft); }
td.n div.better { color: var(--good); font-weight: 600; } td.n div.worse { color: var(--bad); font-weight: 600; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin: 6px 0 0; }
.charts > .table { margin-top: 0; } .charts { align-items: start; }
.dots { display: grid; grid-template-columns: max-content minmax(60px, 1fr); gap: 0 30px; align-items: center; margin: 10px 6px 4px 0;
  font-size: 12.5px; font-variant-numeric: tabular-nums; }
.dots.two { grid-template-columns: max-content minmax(60px, 1fr) minmax(60px, 1fr); }
.dots .who { font-weight: 500; color: var(--ink); }
.track { position: relative; height: 26px; }
.track i { position: absolute; }
.track .grid { top: 0; bottom: 0; width: 1px; background: var(--grid); }
.track .first { top: 0; bottom: 0; border-left: 1px dashed var(--soft); }
.track .dot { width: 9px; height: 9px; top: 8.5px; margin-left: -4.5px; border-radius: 99px; opacity: .72;
  box-shadow: 0 0 0 1.5px var(--card); }
.track .mean { width: 2px; margin-left: -1px; top: 3px; bottom: 3px; border-radius: 1px; }
.axis { position: relative; height: 18px; font-size: 11px; color: var(--soft); }
.axis span { position: absolute; transform: translateX(-50%); }
.runs { columns: 3 260px; font-size: 13px; padding-left: 18px; }
a { color: var(--fill); text-decoration: none; } a:hover { text-decoration: underline; }
@media (max-width: 760px) { td.label { display: inline; } .track { height: 22px; } .track .dot { top: 6.5px; } }
"""


def write_page(plan: Plan, result: dict[str, Any]) -> Path:
    """Write DIR/ablation.html from `result` (results.collect) and the metrics of the runs; returns its path."""
    sections = [header(plan, result), *(group(result, name) for name in GROUPS), curves(plan, result), runs(plan, result)]
    head = el("head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", http_equiv="Content-Security-Policy", content=POLICY), el("title", f"{result['title']} – ablation"),
              el("style", Html(STYLE + MORE_STYLE)))
    path, page = plan.folder / "ablation.html", "<!doctype html>\n" + el("html", head, el("body", el("main", sections)), lang="en")
    atomic_write(path, page.encode("utf-8", errors="replace"))
    return path


def header(plan: Plan, result: dict[str, Any]) -> Html:
    """The question, and how it was asked."""
    finished = sum(run["finished"] for variant in result["variants"] for run in variant["runs"])
    complete = finished == len(plan.runs)
    state = "complete" if complete else f"{finished} of {len(plan.runs)} runs"
    steps = sorted({len(run.steps) for run in plan.runs})
    facts = [
        Html(el("b", f"{len(plan.variants)} variants × {len(plan.file.seeds)} seeds")),
        Html("from " + el("b", plan.base.shown)),
        f"{' or '.join(f'{n:,}' for n in steps)} steps each, {short(sum(map(positions_of, plan.runs)))} positions together",
        "the data of one seed come in the same order in every variant",
    ]
    command = f"ernie5 ablate {shlex.quote(str(plan.file.path))} --out {shlex.quote(str(plan.folder))}"
    return together(
        el("h1", result["title"][:1].upper() + result["title"][1:], el("span", state, class_="state" if complete else "state open")),
        el("p", result["about"], class_="lead") if result["about"] else None,
        el("p", [el("span", fact) for fact in facts], class_="facts"),
        el("div", el("span", "the same again" if complete else "go on"), el("code", command), class_="commands"),
    )


def group(result: dict[str, Any], name: str) -> Html | None:
    """Table and dots of the metrics of one kind; None where there are none."""
    keys = [key for key in result["metrics"] if key.startswith(f"{name}/")]
    if not keys:
        return None
    table, dots = _table(result, keys), [_dots(result, key) for key in keys]
    shown = el("div", table, dots, class_="charts") if len(keys) == 1 else together(table, el("div", dots, class_="charts"))
    return together(el("h2", GROUPS[name]), el("p", _lead(result, name), class_="lead"), shown)


def _lead(result: dict[str, Any], name: str) -> str:
    first, seeds = result["variants"][0]["name"], len(result["seeds"])
    told = {"loss": "Nats per token, bit and code on data that training never saw; lower is better.",
            "accuracy": "Share of held-out combinations that are right in every attribute.",
            "router": "The most loaded expert over the mean, worst layer, over the last tenth of training; 1 is perfect balance."}[name]
    if seeds == 1:
        return f"{told} Below each figure: the difference to {first}. One seed tells nothing about chance."
    return (f"{told} ± is the standard deviation over {seeds} seeds. Below: the mean difference to {first}, seed by seed; coloured where "
            "its 95 % interval leaves out zero.")


def _table(result: dict[str, Any], keys: list[str]) -> Html:
    axes = list(result["axes"])
    head = el("tr", [el("th", axis) for axis in axes], [el("th", metric_name(key), class_="n") for key in keys])
    rows = []
    for i, variant in enumerate(result["variants"]):
        labels = [el("td", el("i", style=f"background:{colour_of(i)}") if n == 0 else None, variant["labels"][axis], class_="label")
                  for n, axis in enumerate(axes)]
        rows.append(el("tr", labels, [el("td", _figures(key, variant), class_="n", data_label=metric_name(key)) for key in keys]))
    return el("div", el("div", el("table", el("thead", head), el("tbody", rows)), class_="scroll"), class_="card table")


def _figures(key: str, variant: dict[str, Any]) -> Html | str:
    found = variant["metrics"].get(key)
    if found is None:
        return GAP
    spread = el("small", f"±{NARROW}{plain(key, found['spread'])}") if found["spread"] is not None else None
    change = found["difference"]
    below = el("div", difference_text(key, change).rstrip("*"), class_=_verdict(key, change)) if change is not None else None
    return together(el("b", plain(key, found["mean"])), spread, below)


def _verdict(key: str, change: dict[str, Any]) -> str | None:
    if not change["clear"]:
        return None
    return "better" if (change["mean"] < 0) == key.startswith(LOWER_IS_BETTER) else "worse"


def _dots(result: dict[str, Any], key: str) -> Html:
    values = [{run["seed"]: run["metrics"][key] for run in variant["runs"] if key in run["metrics"]} for variant in result["variants"]]
    first, absolute = values[0], key.startswith("accuracy/")
    rows = []
    for i, (variant, found) in enumerate(zip(result["variants"], values, strict=True)):
        distances = [value - first[seed] if absolute else value / first[seed] - 1 for seed, value in found.items() if first.get(seed)]
        if found:
            rows.append(DotRow(variant["name"], list(found.values()), distances if i else [], colour_of(i)))
    unit = UNITS.get(key.removeprefix("loss/"), "")
    told = f"{unit}; right: from {result['variants'][0]['name']}, seed by seed".removeprefix("; ") if len(first) > 1 else unit
    return el("figure", el("figcaption", el("b", metric_name(key)), told), dot_plot(rows, "" if absolute else "%"), class_="card")


def curves(plan: Plan, result: dict[str, Any]) -> Html | None:
    """How the variants got there."""
    heldout, training = heldout_figures(plan), training_figures(plan)
    if heldout is None and training is None:
        return None
    names = [el("span", el("i", style=f"background:{colour_of(i)}"), variant["name"]) for i, variant in enumerate(result["variants"])]
    legend = el("p", names, class_="legend")
    lead = "Means over seeds and stretches of steps. The distance is taken seed by seed, on the same data."
    return together(el("h2", "While training"), el("p", lead, class_="lead"), legend, heldout, training)


def runs(plan: Plan, result: dict[str, Any]) -> Html:
    """Every run, with its own report."""
    items = []
    for run in (run for variant in result["variants"] for run in variant["runs"]):
        told = "" if run["finished"] else f" – {'at step ' + str(run['step']) if run['step'] else 'not begun'}"
        has_report = RunFolder(plan.folder / run["folder"]).report.exists()
        items.append(el("li", el("a", run["folder"], href=f"{run['folder']}/report.html") if has_report else run["folder"], told))
    return together(el("h2", "Runs"), el("ul", items, class_="runs"))
