"""`report.html`: one page that tells a run, with everything inside it: no script, no network, no second file.

    facts · what it can do · held-out loss · sub-models · curves · routers · routing study · samples · damaged data
What a run does not have (not evaluated yet, text only, interrupted) is left out, with a sentence. Ours.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from ernie5.report.curves import accuracy_curves, training_curves
from ernie5.report.facts import facts
from ernie5.report.html import Html, el, shorten
from ernie5.report.media import sample_grid
from ernie5.report.read import DIRECTIONS, RunRecord, dig, number, read_run
from ernie5.report.router import router_maps
from ernie5.report.routing import routing
from ernie5.report.style import STYLE
from ernie5.report.surface import submodels
from ernie5.report.tables import accuracy_table, direction_name, loss_table
from ernie5.run.files import atomic_write

POLICY = "default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'"
SHOWN_REJECTS = 20
MAX_RECIPE = 40_000


def write_report(run_dir: Path) -> Path:
    """Write `run_dir/report.html` from what the folder holds and return its path. ValueError when `run_dir` is no folder."""
    run = read_run(run_dir)
    sections = [header(run), abilities(run), heldout(run), submodels(run), training(run), routers(run), routing(run), samples(run),
                damaged(run), appendix(run)]
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", http_equiv="Content-Security-Policy", content=POLICY),
        el("title", f"{run.name} – report"),
        el("style", Html(STYLE)),
    )
    page = "<!doctype html>\n" + el("html", head, el("body", el("main", sections)), lang="en")
    atomic_write(run.folder.report, page.encode("utf-8", errors="replace"))
    return run.folder.report


def header(run: RunRecord) -> Html:
    """Name, state, the facts in a line, and the commands that repeat the run or go on with it."""
    wanted = number(dig(run.recipe, "train.steps"))
    reached = f"step {run.step:,}" + (f" of {wanted:,.0f}" if wanted else "")
    folder, recipe = (shlex.quote(str(path)) for path in (run.folder.path, run.folder.recipe))
    complete, state, go_on = False, f"unfinished: {reached}", f"ernie5 resume {folder}"
    if wanted is not None and run.step >= wanted:
        complete, state, go_on = True, "complete", f"ernie5 resume {folder} train.steps=MORE --to NEW_DIR"
    elif run.step == run.ended_step:
        complete, state = True, f"complete: its data ended at {reached}"
        go_on = f"ernie5 resume {folder} data.sources.NAME.epochs=MORE --to NEW_DIR"
    commands = [el("span", "the same again"), el("code", f"ernie5 train {recipe} run.dir=NEW_DIR"), el("span", "go on"), el("code", go_on)]
    return together(
        el("h1", run.name, el("span", state, class_="state" if complete else "state open")),
        el("p", [el("span", fact) for fact in facts(run)], class_="facts"),
        el("div", commands, class_="commands"),
        *(el("p", shorten(note), class_="note") for note in run.notes),
    )


def abilities(run: RunRecord) -> Html:
    """The evaluation table, and the accuracies on the way when the run looked at them."""
    title, table = el("h2", "What it can do"), accuracy_table(run.evaluation)
    if table is None:
        command = el("code", f"ernie5 eval {shlex.quote(str(run.folder.path))}")
        return together(title, el("p", "Not evaluated yet: ", command, " makes the table and the samples.", class_="note"))
    lead = ("Prompts are combinations that training never saw. Right means every attribute at once. Chance is the best constant answer, "
            "the ceiling is what the judge reads from real media after the tokenizer; ± is one standard error.")
    return together(title, el("p", lead, class_="lead"), table, accuracy_curves(run))


def heldout(run: RunRecord) -> Html | None:
    """Held-out loss beside the marginal entropy of the codes; None before an evaluation."""
    losses = dig(run.evaluation, "loss")
    table = loss_table(losses) if isinstance(losses, dict) else None
    if table is None:
        return None
    lead = ("The marginal entropy is what a model without any context could reach: it knows only how often each token, bit or code occurs. "
            "Every per cent below it comes from context.")
    return together(el("h2", "Held-out loss"), el("p", lead, class_="lead"), table)


def training(run: RunRecord) -> Html:
    """Losses, learning rate, gradient norm, speed and balance over steps."""
    title = el("h2", "Training")
    if not run.metrics:
        return together(title, el("p", "No step has been taken yet: there is nothing in metrics.jsonl.", class_="note"))
    lead = "Thin: every step. Bold: running mean."
    if dig(run.evaluation, "loss"):
        lead += " Dashed: marginal entropy of the held-out codes. Diamond: held-out loss at the end."
    skipped = sum(bool(m.get("skipped")) for m in run.metrics)
    bad = f" Red marks: {skipped} step(s) skipped because a gradient was not finite." if skipped else ""
    return together(title, el("p", lead + bad, class_="lead"), training_curves(run))


def routers(run: RunRecord) -> Html:
    """Which experts each kind of position goes to, by layer."""
    title = el("h2", "Routers")
    layers = number(dig(run.recipe, "model.num_layers"))
    maps = router_maps(run.router_load, int(layers) if layers else None) if run.router_load is not None else None
    if maps is None:
        return together(title, el("p", "No checkpoint with router loads yet.", class_="note"))
    lead = ("Each row is a kind of position, each column an expert. Colour is the expert's share of the row's choices against an even "
            "share, over about the last hundred steps.")
    return together(title, el("p", lead, class_="lead"), maps)


def samples(run: RunRecord) -> Html:
    """What the model made and wrote, with prompts and verdicts."""
    parts: list[Html] = []
    for name in DIRECTIONS:
        if rows := run.samples[name]:
            grid, told = sample_grid(rows, run.folder.samples, name)
            lead = "made by the model from this text" if name.startswith("text_to_") else "real media, described by the model"
            parts += [el("h3", direction_name(name), el("small", f"{lead}; {told}" if told else lead)), grid]
    return together(el("h2", "Samples"), *(parts or [el("p", "No samples yet: an evaluation writes them.", class_="note")]))


def damaged(run: RunRecord) -> Html | None:
    """Data that could not be used; None when all of it could."""
    rejected, warned = ([q for q in run.quarantine if q.get("kind") == kind] for kind in ("rejected", "warning"))
    if not rejected and not warned:
        return None
    told = f"{len(rejected)} sample(s) could not be used and were skipped; {len(warned)} warning(s). logs/quarantine.jsonl names them all."
    shown = [el("li", el("code", shorten(str(q.get("sample", "?")), 120)), f" {shorten(str(q.get('reason', '')))}")
             for q in (rejected + warned)[:SHOWN_REJECTS]]
    return together(el("h2", "Damaged data"), el("p", told), el("details", el("summary", "the first of them"), el("ul", shown)))


def appendix(run: RunRecord) -> Html:
    """The recipe, and the code that ran."""
    recipe = el("details", el("summary", "recipe.yaml"), el("pre", shorten(run.recipe_text, MAX_RECIPE))) if run.recipe_text else None
    return el("footer", recipe, " · ".join(run.code.splitlines()) or None)


def together(*parts: Html | None) -> Html:
    """Parts of a section, one after the other."""
    return Html("".join(part for part in parts if part is not None))
