"""`report.html`: one page that tells a run, with everything inside it: no script, no network, no second file.

    facts · what it can do · held-out loss · curves · routers · samples · damaged data
What a run does not have (not evaluated yet, text only, interrupted) is left out, with a sentence. Ours.
"""

from __future__ import annotations

import shlex
from pathlib import Path

import numpy as np

from ernie5.run.files import atomic_write
from ernie5.train.report_facts import facts
from ernie5.train.report_html import Html, el, shorten
from ernie5.train.report_media import sample_grid
from ernie5.train.report_plots import COLOURS, Curve, line_chart
from ernie5.train.report_read import DIRECTIONS, KINDS, RunRecord, dig, number, read_run
from ernie5.train.report_router import router_maps
from ernie5.train.report_style import STYLE
from ernie5.train.report_tables import NAMES, UNITS, accuracy_table, direction_name, loss_table

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
SHOWN_REJECTS = 20
MAX_RECIPE = 40_000


def write_report(run_dir: Path) -> Path:
    """Write `run_dir/report.html` from what the folder holds and return its path. ValueError when `run_dir` is no folder."""
    run = read_run(run_dir)
    sections = [header(run), abilities(run), heldout(run), curves(run), routers(run), samples(run), damaged(run), appendix(run)]
    head = el("head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", http_equiv="Content-Security-Policy", content=POLICY), el("title", f"{run.name} – report"), el("style", Html(STYLE)))
    page = "<!doctype html>\n" + el("html", head, el("body", el("main", sections)), lang="en")
    atomic_write(run.folder.report, page.encode("utf-8", errors="replace"))
    return run.folder.report


def header(run: RunRecord) -> Html:
    """Name, state, the facts in a line, and the commands that repeat the run or go on with it."""
    wanted = number(dig(run.recipe, "train.steps"))
    complete = wanted is not None and run.step >= wanted
    state = "complete" if complete else f"unfinished: step {run.step:,}" + (f" of {wanted:,.0f}" if wanted else "")
    folder = shlex.quote(str(run.folder.path))
    commands = [el("span", "the same again"), el("code", f"ernie5 train {shlex.quote(str(run.folder.recipe))} run.dir=NEW_DIR"),
                el("span", "go on"), el("code", f"ernie5 resume {folder}" if not complete else f"ernie5 resume {folder} train.steps=MORE --to NEW_DIR")]
    return Html(el("h1", run.name, el("span", state, class_="state" if complete else "state open"))
                + el("p", [el("span", fact) for fact in facts(run)], class_="facts") + el("div", commands, class_="commands")
                + "".join(el("p", shorten(note), class_="note") for note in run.notes))


def abilities(run: RunRecord) -> Html:
    """The evaluation table, and the accuracies on the way when the run looked at them."""
    title, table = el("h2", "What it can do"), accuracy_table(run.evaluation)
    if table is None:
        told = f"Not evaluated yet: ernie5 eval {shlex.quote(str(run.folder.path))} writes eval.json, the table and the samples."
        return Html(title + el("p", told, class_="note"))
    lead = ("Prompts are combinations that training never saw. Right means: every attribute at once. Chance is the best constant answer, the "
            "ceiling what the judge reads from real media after the tokenizer; ± is one standard error.")
    return Html(title + el("p", lead, class_="lead") + table + (_accuracy_curves(run) or ""))


def _accuracy_curves(run: RunRecord) -> Html | None:
    known = {**run.evaluated, run.step: run.evaluation}
    if len(known) < 2:
        return None
    figures = []
    for kind, colour in zip(KINDS, (COLOURS["vision"], COLOURS["text"], COLOURS["audio"]), strict=True):
        rows = (f"text_to_{kind}", f"{kind}_to_text")
        values = [np.array([_accuracy(e, row) for e in known.values()]) for row in rows]
        if np.isfinite(values).any():
            drawn = [Curve(v, c, direction_name(row), smooth=False) for v, c, row in zip(values, (colour, COLOURS["total"]), rows, strict=True)]
            figures.append(_figure(kind, "accuracy on held-out combinations over steps", line_chart(np.array(list(known)), drawn)))
    return el("div", figures, class_="charts")


def _accuracy(evaluation: dict, row: str) -> float:
    value = number(dig(evaluation, f"{row}.accuracy"))
    return float("nan") if value is None else value


def heldout(run: RunRecord) -> Html | None:
    """Held-out loss beside the marginal entropy of the codes."""
    losses = dig(run.evaluation, "loss")
    table = loss_table(losses) if isinstance(losses, dict) else None
    if table is None:
        return None
    lead = ("The marginal entropy is what a model without any context would reach: it knows only how often each token, bit or code occurs. "
            "Every per cent below it comes from context.")
    return Html(el("h2", "Held-out loss") + el("p", lead, class_="lead") + table)


def curves(run: RunRecord) -> Html:
    """Losses, learning rate, gradient norm, speed and balance over steps."""
    title = el("h2", "Training")
    if not run.metrics:
        return Html(title + el("p", "No step has been taken yet: metrics.jsonl is empty.", class_="note"))
    steps = run.series("step")
    skipped = steps[np.array([bool(m.get("skipped")) for m in run.metrics])]
    figures = [_loss_figure(run, steps, name, skipped) for name in ("total", *UNITS)]
    for key, name, told, colour, smooth in (
        ("lr", "learning rate", "", COLOURS["text"], False), ("grad_norm", "gradient norm", "before clipping", COLOURS["multi_token"], True),
        ("tokens_per_s", "speed", "tokens per second", COLOURS["vision"], True),
        ("router/max_load", "router balance", "most loaded expert over the mean, worst layer; 1 = even", COLOURS["audio"], True),
    ):
        values = run.series(key)
        if np.isfinite(values).any():
            figures.append(_figure(name, told, line_chart(steps, [Curve(values, colour, smooth=smooth)])))
    lead = "Thin: every step. Bold: running mean. Dashed: marginal entropy of the held-out codes. Diamond: held-out loss at the end."
    bad = f" Red marks: {len(skipped)} step(s) skipped because a gradient was not finite." if len(skipped) else ""
    return Html(title + el("p", lead + bad, class_="lead") + el("div", figures, class_="charts"))


def _loss_figure(run: RunRecord, steps: np.ndarray, name: str, skipped: np.ndarray) -> Html | None:
    values = _losses(run, name)
    if not np.isfinite(values).any():
        return None
    drawn, held = [Curve(values, COLOURS[name], "next token" if name == "text" else "")], dig(run.evaluation, "loss")
    second = _losses(run, "multi_token")
    if name == "text" and np.isfinite(second).any():
        drawn.append(Curve(second, COLOURS["multi_token"], NAMES["multi_token"]))
    level, dot = (number(held.get(key)) if isinstance(held, dict) else None for key in (f"marginal/{name}", name))
    chart = line_chart(steps, drawn, {"marginal entropy": level} if level else None, [dot] if dot is not None else [], skipped)
    return _figure(f"loss, {NAMES[name]}", UNITS.get(name, "weighted sum"), chart)


def _losses(run: RunRecord, name: str) -> np.ndarray:
    """A step without any target of a modality logs exactly 0, which is no loss."""
    values = run.series(f"loss/{name}")
    return np.where(values == 0, np.nan, values)


def _figure(name: str, told: str, chart: Html) -> Html:
    return el("figure", el("figcaption", el("b", name), told), chart, class_="card")


def routers(run: RunRecord) -> Html | None:
    """Which experts each kind of position goes to, by layer."""
    title = el("h2", "Routers")
    layers = number(dig(run.recipe, "model.num_layers"))
    maps = router_maps(run.router_load, int(layers) if layers else None) if run.router_load is not None else None
    if maps is None:
        return Html(title + el("p", "No checkpoint with router loads yet.", class_="note"))
    lead = ("Each row is a kind of position, each column an expert; colour is the share of the row's choices against an even share, over about "
            "the last hundred steps. Nothing tells the routers which modality a token has.")
    return Html(title + el("p", lead, class_="lead") + maps)


def samples(run: RunRecord) -> Html:
    """What the model made and wrote, with prompts and verdicts."""
    parts = []
    for name in DIRECTIONS:
        if rows := run.samples[name]:
            grid, told = sample_grid(rows, run.folder.samples, name.startswith("text_to_"))
            lead = "made by the model from this text" if name.startswith("text_to_") else "real media, described by the model"
            parts += [el("h3", direction_name(name), el("small", f"{lead}; {told}" if told else lead)), grid]
    if not parts:
        return Html(el("h2", "Samples") + el("p", "No samples yet; an evaluation writes them.", class_="note"))
    return Html(el("h2", "Samples") + Html("".join(parts)))


def damaged(run: RunRecord) -> Html | None:
    """Data that could not be used; None when all of it could."""
    rejected, warned = ([q for q in run.quarantine if q.get("kind") == kind] for kind in ("rejected", "warning"))
    if not rejected and not warned:
        return None
    lines = [el("li", el("code", shorten(str(q.get("sample", "?")), 120)), f" {shorten(str(q.get('reason', '')))}") for q in rejected + warned]
    told = f"{len(rejected)} sample(s) could not be used and were skipped; {len(warned)} warning(s). logs/quarantine.jsonl names them all."
    shown = el("details", el("summary", "the first of them"), el("ul", lines[:SHOWN_REJECTS]))
    return Html(el("h2", "Damaged data") + el("p", told) + shown)


def appendix(run: RunRecord) -> Html:
    """The recipe, and the code that ran."""
    recipe = el("details", el("summary", "recipe.yaml"), el("pre", shorten(run.recipe_text, MAX_RECIPE))) if run.recipe_text else None
    return el("footer", recipe, " · ".join(run.code.splitlines()) or None)
