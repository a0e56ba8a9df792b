"""`ernie5 data inspect`: look at all samples, or some of them, and tell what is there on the terminal and on a page.

Ours.
"""

from __future__ import annotations

from pathlib import Path

from ernie5.inspect.numbers import UNITS, as_bytes
from ernie5.inspect.open_paths import Opened
from ernie5.inspect.page import write_page
from ernie5.inspect.survey import Survey
from ernie5.inspect.verify import SHOWN
from ernie5.inspect.walk import Job, walk
from ernie5.sequence import Modality

TOLD = {Modality.TEXT: ("characters", "words"), Modality.IMAGE: ("pixels", "bytes"), Modality.VIDEO: ("pixels", "seconds", "bytes"),
        Modality.AUDIO: ("seconds", "bytes", "speaker numbers")}


def inspect_data(opened: Opened, job: Job, jobs: int = 1, at_most: int | None = None) -> Survey:
    """Look at the samples. `at_most`: that many, spread evenly."""
    survey = Survey()
    for problem in opened.problems:
        survey.add(problem)
    for found in walk(opened, job, jobs, at_most):
        survey.add(found)
    return survey


def write_inspection(out: Path, survey: Survey, opened: Opened, job: Job, title: str, longest: int | None = None) -> None:
    """The page of a survey."""
    seen = survey.num_good + sum(not p.note for p in survey.problems)
    part = "all samples were read and decoded" if survey.num_good + survey.num_problems >= opened.num_samples else (
        f"{seen:,} of {opened.num_samples:,} samples were read and decoded, spread evenly")
    write_page(out, survey, job, title, part, longest)


def told(survey: Survey) -> str:
    """For the terminal."""
    lines = [f"{survey.num_good:,} samples, {as_bytes(survey.num_bytes)}"]
    lines += ["", f"{'direction':34}{'samples':>10}"]
    lines += [f"{name:34}{count:10,d}" for name, count in survey.directions.most_common()]
    lines += ["", f"{'':22}{'segments':>9}{'least':>11}{'5 %':>11}{'median':>11}{'95 %':>11}{'most':>11}"]
    rows = [(m.value, q, len(survey.numbers.get((m.value, q), ()))) for m in Modality for q in TOLD[m]]
    rows += [(kind, "tokens", survey.num_good) for kind in sorted(survey.tokens)]
    for name, quantity, count in rows:
        if found := survey.quantiles(name, quantity):
            lines.append(f"{f'{name} {quantity}':22.22}{count:9,d}" + "".join(f"{UNITS[quantity](value):>11}" for value in found))
    for title, counts in (("languages", survey.languages), ("scripts", survey.scripts), ("attributes", survey.attributes)):
        if counts:
            lines += ["", f"{title}: " + ", ".join(f"{name} {count:,}" for name, count in counts.most_common(12))]
    if survey.reasons:
        lines += ["", f"{survey.num_problems:,} problems and {survey.num_notes:,} notes"]
        lines += [f"{count:8,d}  {reason}" for reason, count in survey.reasons.most_common(SHOWN)]
    return "\n".join("".join(c if c.isprintable() else "?" for c in line) for line in lines)
