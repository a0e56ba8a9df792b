"""Every checksum and every decode of some data: what is wrong, in the form of the quarantine log.

    {"kind": "rejected", "sample": id, "reason": …}       a sample or a file that cannot be trusted
    {"kind": "warning", …}                                what costs no known sample: members that nobody reads
Ours: all of it.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ernie5.inspect.open_paths import Opened, Problem
from ernie5.inspect.survey import kind_of
from ernie5.inspect.walk import Job, walk
from ernie5.run.files import atomic_write
from ernie5.sequence import Modality

SHOWN = 20


@dataclass(frozen=True)
class Verified:
    """What came out. `first`: the first problems; `reasons`: how often each kind of reason occurred."""

    num_good: int
    num_damaged: int
    num_notes: int
    num_bytes: int
    segments: Counter[Modality]
    reasons: Counter[str]
    first: tuple[Problem, ...]


def verify(opened: Opened, job: Job, jobs: int = 1, out: Path | None = None) -> Verified:
    """Read and decode everything; with `out`, write every problem there, one JSON object a line."""
    segments: Counter[Modality] = Counter()
    reasons: Counter[str] = Counter()
    problems: list[Problem] = []
    lines: list[str] = []
    num_good = num_bytes = num_notes = 0

    def note(problem: Problem) -> None:
        reasons[kind_of(problem.reason)] += not problem.note
        if len(problems) < SHOWN:
            problems.append(problem)
        if out is not None:
            kind = "warning" if problem.note else "rejected"
            lines.append(json.dumps({"kind": kind, "sample": problem.where, "reason": problem.reason}) + "\n")

    for problem in sorted(opened.problems, key=lambda p: p.note):
        note(problem)
        num_notes += problem.note
    num_damaged = len(opened.problems) - num_notes
    for found in walk(opened, job, jobs):
        if isinstance(found, Problem):
            num_damaged += 1
            note(found)
        else:
            num_good += 1
            num_bytes += sum(part.num_bytes for part in found.facts.parts)
            segments.update(part.modality for part in found.facts.parts)
    if out is not None:
        atomic_write(out, "".join(lines).encode())
    return Verified(num_good, num_damaged, num_notes, num_bytes, segments, +reasons, tuple(problems))


def told(found: Verified, out: Path | None) -> str:
    """For the terminal."""
    media = ", ".join(f"{found.segments[m]:,} {m.value}" for m in Modality if found.segments[m]) or "none"
    lines = [f"{found.num_good:,} samples are whole: {media}; {found.num_bytes / 1e6:,.1f} MB"]
    if found.num_damaged:
        lines += [f"{found.num_damaged:,} problems:"]
        lines += [f"{count:8,d}  {reason}" for reason, count in found.reasons.most_common(SHOWN)]
        lines += ["", "the first of them:"]
    lines += [f"  {'note: ' if p.note else ''}{_plain(p.where)}: {_plain(p.reason)}" for p in found.first]
    if out is not None:
        lines += [f"all of them: {out}"]
    elif found.num_damaged + found.num_notes > len(found.first):
        lines += [f"  … and {found.num_damaged + found.num_notes - len(found.first):,} more; --out problems.jsonl lists all"]
    return "\n".join(lines)


def _plain(text: str) -> str:
    """Names come from strangers: nothing that could steer a terminal, and not endless."""
    return "".join(c if c.isprintable() else "?" for c in text[:400])
