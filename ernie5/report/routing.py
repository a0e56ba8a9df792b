"""The routing study in the report, all of it from routing.json: who shares experts, how far one leads, how evenly a kind spreads.

    IoU of the busiest 25 % as matrices · largest share of one expert as bars · normalised entropy over layers, each beside chance
Report: Fig. 8-10. Letters: L layers, R kinds, E experts.
"""

from __future__ import annotations

import shlex
from typing import Any

import numpy as np

from ernie5.analysis.routing import set_size
from ernie5.analysis.routing_study import RoutingStudy
from ernie5.report.html import Html, el
from ernie5.report.plots import COLOURS, DASHES, draw
from ernie5.report.read import RunRecord
from ernie5.report.router import COLD, WARM, kind_name, router_maps
from ernie5.report.tables import percent
from ernie5.sequence import Kind

ABOVE, BELOW = 0.8, 0.4  # opacity of a cell as far from chance as can be; nothing shared is no rare thing, all shared is
SIZE = (7.6, 2.3)  # inches: the whole page


def routing(run: RunRecord) -> Html:
    """The section; before an analysis, the command that makes it."""
    title = el("h2", "Routing study")
    if run.routing is None:
        command = el("code", f"ernie5 analyze {shlex.quote(str(run.folder.path))}")
        return Html(title + el("p", "Not analyzed yet: ", command, " counts which experts every kind of position uses.", class_="note"))
    study = run.routing
    lead = (f"Counted after step {study.step:,} over the first {study.samples:,} samples of every source. A kind is what a position holds, "
            f"and whether the model reads it or makes it; every position chooses {study.top_k} of {study.num_experts} experts.")
    return Html("".join([title, el("p", lead, class_="lead"), shared(study), leading(study), spread(study), usage(study)]))


def shared(study: RoutingStudy) -> Html:
    """IoU matrices of the first, middle and last layer."""
    size, chance = set_size(study.num_experts), study.chance_iou
    head = el("h3", "shared experts", el("small", f"of the busiest {size} experts of two kinds, the part that both have (intersection over "
                                         f"union); at most 5 % of random pairs lie above {study.chance_iou_95:.2f}"))
    ramp = ", ".join(f"{_against_chance(v, chance)} {100 * v:.0f}%" for v in (0.0, chance, 1.0))
    key = el("div", "0: none shared", el("i", style=f"background:linear-gradient(90deg, {ramp})"),
             f"1: the same experts  (colourless = chance, {chance:.2f})", class_="scale")
    names = [kind_name(kind) for kind in study.kinds]
    figures = [el("figure", el("figcaption", el("b", study.layer_name(i))), _matrix(study.iou[i], names, chance), class_="card")
               for i in study.shown]
    return Html(head + key + el("div", figures, class_="charts three"))


def leading(study: RoutingStudy) -> Html:
    """Bars of the largest share of one expert, in the same layers."""
    head = el("h3", "the busiest expert of every kind", el("small", "share of positions that chose it; tick: at random"))
    figures = [el("figure", el("figcaption", el("b", study.layer_name(i))), _bars(study, i), class_="card") for i in study.shown]
    return Html(head + el("div", figures, class_="charts three"))


def spread(study: RoutingStudy) -> Html:
    """Curves of the normalised entropy over the layers of the backbone."""
    head = el("h3", "spread over the experts", el("small", "normalised entropy of the choices by layer; 1 = all experts equally often"))
    keys = [el("span", el("i", style=f"color:{_colour(kind)}"), kind_name(kind), class_="key read" if _is_read(kind) else "key made")
            for kind in study.kinds]
    chart = draw(lambda axes: _paint_entropy(axes, study), SIZE)
    return Html(head + el("figure", el("figcaption", el("b", "entropy"), "dashed: chance", keys), chart, class_="card"))


def usage(study: RoutingStudy) -> Html:
    """Every expert of every layer, folded away."""
    load = np.zeros((len(study.frequency), len(Kind), study.num_experts))
    load[:, [int(kind) for kind in study.kinds]] = np.nan_to_num(study.frequency * study.positions[..., None])
    return el("details", el("summary", "every expert in every layer"), router_maps(load, study.num_layers))


def _matrix(iou: np.ndarray, names: list[str], chance: float) -> Html:
    cells: list[Html] = [el("span"), *(el("span", name, class_="head") for name in names)]
    for a, row in enumerate(iou):
        cells.append(el("span", names[a]))
        for b, value in enumerate(row):
            told = f"{names[a]} and {names[b]}"
            if a == b:
                cells.append(el("b", "·", class_="self"))
            elif np.isnan(value):
                cells.append(el("b", "–", title=f"{told}: not both in this layer"))
            else:
                cells.append(el("b", f"{value:.2f}", title=f"{told}: {value:.3f}, chance {chance:.3f}",
                                style=f"background:{_against_chance(value, chance)}"))
    return el("div", cells, class_="shares", style=f"--n:{len(names)}")


def _against_chance(value: float, chance: float) -> str:
    """Warm above chance, cold below, clear at chance."""
    above = value >= chance
    opacity = ABOVE * (value - chance) / max(1 - chance, 1e-9) if above else BELOW * (chance - value) / chance
    red, green, blue = (int(c) for c in (WARM if above else COLD))
    return f"rgba({red},{green},{blue},{opacity:.3f})"


def _bars(study: RoutingStudy, layer: int) -> Html:
    cells: list[Html] = []
    for r, kind in enumerate(study.kinds):
        value, chance = study.peak[layer, r], study.chance_peak[layer, r]
        if np.isnan(value):
            cells += [el("span", kind_name(kind)), el("div", class_="bar"), el("b", "–")]
            continue
        told = f"expert {int(study.peak_expert[layer, r]) + 1}: {percent(value)}, at random {percent(chance)}"
        inside = [el("i", style=f"left:0;width:{100 * value:.1f}%;background:{_colour(kind)};opacity:{0.65 if _is_read(kind) else 1}"),
                  el("i", class_="tick top", style=f"left:{100 * chance:.1f}%")]
        bar = el("div", inside, class_="bar", role="img", aria_label=told, title=told)
        cells += [el("span", kind_name(kind)), bar, el("b", percent(value))]
    return el("div", cells, class_="peaks")


def _paint_entropy(axes: Any, study: RoutingStudy) -> None:
    layers, deep = np.arange(1, study.num_layers + 1), slice(0, study.num_layers)
    for r, kind in enumerate(study.kinds):
        axes.plot(layers, study.chance_entropy[deep, r], color=_colour(kind), linewidth=0.9, linestyle=DASHES)
        axes.plot(layers, study.entropy[deep, r], color=_colour(kind), linewidth=1.5, marker="o", markersize=4.2, markeredgewidth=1.2,
                  markerfacecolor="none" if _is_read(kind) else _colour(kind))
    lowest = np.nanmin(study.entropy[deep])
    axes.set_ylim(max(0.0, np.floor(20 * lowest - 0.5) / 20), 1.015)
    axes.set_xlim(0.8, study.num_layers + 0.2)
    axes.set_xlabel("layer")
    axes.locator_params(axis="x", nbins=min(study.num_layers, 16), integer=True)
    axes.locator_params(axis="y", nbins=6)


def _is_read(kind: Kind) -> bool:
    return kind.name.endswith("_UNDERSTAND")


def _colour(kind: Kind) -> str:
    return COLOURS[kind.name.partition("_")[0].lower()]
