"""The first pass: a part of the source (some consecutive samples) -> what each sample's own steps say, and its signatures, in one file.

    parts/000003.npz    text: ids, and the rejects of checks     fate: first step that rejects it, or KEPT
                        rows{s}, count{s}: the signatures of search s and how many rows each sample has

A part depends on nothing but its samples and the recipe, so parts are made in any order, by any process on any machine, and a part that is
there is never made again. Step numbers: 0 = it could not be read or decoded, 1 … = the steps of the recipe.
Ours: all of it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ernie5.data_pipelines.curate.prepare import Check, Search
from ernie5.data_pipelines.curate.recipe import Curation
from ernie5.data_pipelines.curate.view import Reject, View
from ernie5.data_pipelines.media_limits import BadMedia, reason_of
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.source import Source
from ernie5.run.files import atomic_write

KEPT = 2**15 - 1


@dataclass(frozen=True)
class Job:
    """Everything that a process needs to work on parts and shards. `folder`: where parts and shards go while the curation runs."""

    curation: Curation
    steps: tuple[Check | Search, ...]
    source: Source
    folder: Path

    def part_range(self, part: int) -> range:
        """The numbers of the samples of a part."""
        size = self.curation.samples_per_part
        return range(part * size, min((part + 1) * size, len(self.source)))

    @property
    def num_parts(self) -> int:
        """How many parts the source has."""
        return -(-len(self.source) // self.curation.samples_per_part)

    def part_path(self, part: int) -> Path:
        """Where a part is stored."""
        return self.folder / "parts" / f"{part:06d}.npz"

    def view(self, number: int) -> View:
        """Sample `number`, read again. ValueError when it is not what it was: the data was changed in the meantime."""
        try:
            return View(self.source.read(number), self.curation.limits)
        except BadSample as error:
            raise ValueError(f"{error}. It could be read before: do not change shards while they are curated; start again") from error


def sign_part(job: Job, part: int) -> int:
    """Make the file of one part, unless it is there. Returns its number of samples."""
    numbers = job.part_range(part)
    if job.part_path(part).exists():
        return len(numbers)
    ids: list[str] = []
    fate = np.full(len(numbers), KEPT, np.int16)
    rejects: dict[int, dict] = {}
    rows: dict[int, list[np.ndarray]] = {s: [] for s, step in enumerate(job.steps, 1) if isinstance(step, Search)}
    for i, number in enumerate(numbers):
        sample_id, fate[i], reject, signed = _judge(job, number)
        ids.append(sample_id)
        if reject:
            rejects[i] = asdict(reject)
        for s, found in rows.items():
            found.append(signed.get(s, _NO_ROWS))
    arrays: dict[str, Any] = {"text": np.frombuffer(json.dumps({"ids": ids, "rejects": rejects}).encode(), np.uint8), "fate": fate}
    for s, found in rows.items():
        arrays[f"count{s}"] = np.array([len(r) for r in found], np.int32)
        arrays[f"rows{s}"] = np.concatenate(whole) if (whole := [r for r in found if len(r)]) else _NO_ROWS
    file = BytesIO()
    np.savez(file, **arrays)
    atomic_write(job.part_path(part), file.getvalue())
    return len(numbers)


def load_column(job: Job, part: int, name: str) -> np.ndarray:
    """One array of a part."""
    with np.load(job.part_path(part), allow_pickle=False) as found:
        return found[name]


def load_text(job: Job, part: int) -> tuple[list[str], dict[int, Reject]]:
    """Ids of a part's samples, and why checks reject some of them (by place in the part)."""
    found = json.loads(load_column(job, part, "text").tobytes())
    return found["ids"], {int(i): Reject(r["reason"], r["value"], r["of"]) for i, r in found["rejects"].items()}


_NO_ROWS = np.zeros((0, 0), np.uint8)


def _judge(job: Job, number: int) -> tuple[str, int, Reject | None, dict[int, np.ndarray]]:
    """Id, fate, reject and signatures of one sample. Searches after the check that rejects it never see it."""
    try:
        record = job.source.read(number)
    except BadSample as error:
        return error.sample_id, 0, Reject("damaged", error.reason), {}
    signed: dict[int, np.ndarray] = {}
    fate, reject = KEPT, None
    try:
        view = View(record, job.curation.limits)
        view.verify(decode=False)
        for s, step in enumerate(job.steps, 1):
            if isinstance(step, Search):
                signed[s] = step.sign(view)
            elif (reject := step.run(view)) is not None:
                fate = s
                break
        if fate == KEPT or signed:  # what a check rejects at once, by its header perhaps, need not be decoded
            view.verify(decode=job.curation.check == "decode")
    except BadMedia as error:
        return record.id, 0, Reject("damaged", reason_of(error)), {}
    return record.id, fate, reject, signed
