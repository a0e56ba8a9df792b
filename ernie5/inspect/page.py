"""The page of `ernie5 data inspect`: what is in some data, told by tables, histograms and examples. One file, no script, no network.

    facts · directions · each modality · tokens · languages and scripts · what is wrong · examples
Ours.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ernie5.inspect.examples import examples
from ernie5.inspect.look import LOOK
from ernie5.inspect.numbers import as_bytes, as_seconds, histogram
from ernie5.inspect.survey import Survey
from ernie5.inspect.tables import NAMES, quantile_table, shares
from ernie5.inspect.walk import Job
from ernie5.report.html import Html, el, shorten
from ernie5.report.plots import COLOURS
from ernie5.report.report import POLICY, together
from ernie5.report.style import STYLE
from ernie5.run.files import atomic_write
from ernie5.sequence import Modality

CHARTS = {Modality.TEXT: ("characters", "words"), Modality.IMAGE: ("pixels", "aspect", "bytes"),
          Modality.VIDEO: ("pixels", "seconds", "bytes"), Modality.AUDIO: ("seconds", "sample rate", "bytes")}
SCRIPTS = {"CJK": "Chinese", "HIRAGANA": "Japanese", "HANGUL": "Korean"}
MODALITY_NAMES = {Modality.TEXT: "Text", Modality.IMAGE: "Images", Modality.VIDEO: "Clips", Modality.AUDIO: "Sounds"}


def write_page(out: Path, survey: Survey, job: Job, title: str, looked_at: str, longest: int | None = None) -> None:
    """Write the page to `out`. `looked_at`: what part of the data was looked at; `longest`: positions that a row of the run holds."""
    media = [modality_section(survey, m) for m in Modality if survey.segments[m]]
    body = [header(survey, title, looked_at), directions(survey), *media, tokens(survey, longest), languages(survey), wrong(survey),
            examples(survey, job)]
    head = el("head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
              el("meta", http_equiv="Content-Security-Policy", content=POLICY), el("title", f"{title} – data"),
              el("style", Html(STYLE + LOOK)))
    page = "<!doctype html>\n" + el("html", head, el("body", el("main", [part for part in body if part])), lang="en")
    atomic_write(out, page.encode("utf-8", errors="replace"))


def header(survey: Survey, title: str, looked_at: str) -> Html:
    """Name, whether all is well, and the numbers that matter most in a row."""
    state = "all samples are whole" if not survey.num_problems else f"{survey.num_problems:,} problems"
    tiles = [("samples", f"{survey.num_good:,}"), ("encoded", as_bytes(survey.num_bytes))]
    tiles += [("texts" if m is Modality.TEXT else MODALITY_NAMES[m].lower(), f"{survey.segments[m]:,}")
              for m in Modality if survey.segments[m]]
    tiles += [(f"of {name}", as_seconds(sum(survey.numbers[kind, "seconds"]))) for kind, name in (("audio", "sound"), ("video", "clips"))
              if survey.numbers.get((kind, "seconds"))]
    if survey.tokens["document"]:
        tiles.append(("positions", f"{survey.tokens['document']:,}"))
    sources = ", ".join(f"{name} ({count:,})" for name, count in survey.sources.most_common(12))
    return together(
        el("h1", title, el("span", state, class_="state open" if survey.num_problems else "state")),
        el("p", el("span", looked_at), el("span", shorten(f"sources: {sources}", 400)) if sources else None, class_="facts"),
        el("div", [el("div", el("b", value), el("span", name)) for name, value in tiles], class_="tiles card"),
    )


def directions(survey: Survey) -> Html | None:
    """How many samples go from which modalities to which."""
    if not survey.directions:
        return None
    lead = ("Input modality → output modality of the stored samples: what each can teach to make. "
            "While training, pairs also run the other way round (data.roles).")
    return together(el("h2", "Directions"), el("p", lead, class_="lead"),
                    shares({name.replace("->", " → ").replace("+", " + "): n for name, n in survey.directions.items()}, "samples"))


def modality_section(survey: Survey, modality: Modality) -> Html:
    """Formats, quantiles and histograms of one modality."""
    name, colour = modality.value, COLOURS[modality.value]
    forms = ", ".join(f"{form} {count:,}" for form, count in survey.forms[modality].most_common(8))
    quantities = [q for q in dict.fromkeys((*CHARTS[modality], "bytes", "speaker numbers")) if survey.numbers.get((name, q))]
    charts = [el("figure", el("figcaption", el("b", NAMES.get(q, q)), f"of {survey.segments[modality]:,} segments"),
                 histogram(np.frombuffer(survey.numbers[name, q]), q, colour), class_="card") for q in quantities
              if q in CHARTS[modality] and len(set(survey.quantiles(name, q))) > 1]
    sizes = None
    if survey.shapes and modality is Modality.IMAGE:
        common = ", ".join(f"{w} × {h} ({n:,})" for (w, h), n in survey.shapes.most_common(6))
        sizes = el("p", f"Most common sizes: {common}.", class_="lead more")
    who = len(survey.numbers.get((name, "speaker numbers"), ()))
    lead = f"{survey.segments[modality]:,} segments: {forms}." + (f" {who:,} of them say who speaks." if who else "")
    return together(el("h2", MODALITY_NAMES[modality]), el("p", lead, class_="lead"),
                    quantile_table(survey, [(name, q) for q in quantities]), el("div", charts, class_="charts hist"), sizes)


def tokens(survey: Survey, longest: int | None) -> Html | None:
    """Positions by modality; None when no tokenizers were given."""
    if not survey.tokens["document"]:
        return None
    values = np.frombuffer(survey.numbers["document", "tokens"])
    lead = "By the tokenizers of the run; a document is all of its segments, every medium generated, with control tokens."
    if longest:
        cut = float((values > longest).mean())
        lead += f" A row of the run holds train.length = {longest:,}; {100 * cut:.1f} % of the documents are longer and would be cut."
    order = sorted(survey.tokens, key=lambda kind: (kind != "text", kind == "document", kind))
    chart = el("figure", el("figcaption", el("b", "positions of a document"), f"of {survey.num_good:,} samples"),
               histogram(values, "tokens", COLOURS["total"], ("train.length", longest) if longest else None), class_="card")
    return together(el("h2", "Tokens"), el("p", lead, class_="lead"), quantile_table(survey, [(kind, "tokens") for kind in order]),
                    el("div", chart, class_="charts hist"))


def languages(survey: Survey) -> Html | None:
    """Languages if they were guessed, scripts of the letters always."""
    if not survey.scripts:
        return None
    parts: list[Html] = []
    if survey.languages:
        title = el("h3", "languages", el("small", "py3langid's guess, texts of 20 characters and more"))
        parts += [title, shares(survey.languages, "texts")]
    scripts = {SCRIPTS.get(name, name.capitalize()): count for name, count in survey.scripts.items()}
    parts += [el("h3", "scripts", el("small", "of most letters of a text")), shares(scripts, "texts")]
    hint = None if survey.languages else el("p", "pip install 'ernie5[curate]' adds a guess of the language.", class_="lead more")
    return together(el("h2", "Languages and scripts"), *parts, hint)


def wrong(survey: Survey) -> Html | None:
    """Reasons by number, and the first problems."""
    if not survey.reasons:
        return None
    first = sorted(survey.problems, key=lambda p: p.note)[:40]
    shown = [el("li", el("code", shorten(p.where, 120)), f" {shorten(p.reason)}") for p in first]
    return together(el("h2", "What is wrong"), shares(survey.reasons, "times"),
                    el("details", el("summary", "the first of them; ernie5 data verify --out lists all"), el("ul", shown)))
