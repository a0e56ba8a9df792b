"""The second pass: the signatures of all parts -> the fate of every sample, once and for all.

The searches run in the order of the recipe; each sees the samples that every earlier step let pass, in the order of the source. So the
result does not depend on how many processes made the parts, or on when.
Memory: 26 bytes a sample, and what one search needs (see exact, near_text, near_image) at a time.
Ours: all of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO

import numpy as np

from ernie5.data_pipelines.curate.parts import KEPT, Job, load_column
from ernie5.data_pipelines.curate.prepare import Search
from ernie5.run.files import atomic_write


@dataclass(frozen=True)
class Decision:
    """For every sample of the source: the step that rejects it or KEPT; for copies, of which sample, and how alike (0 and -1 otherwise)."""

    fate: np.ndarray    # int16
    of: np.ndarray      # int64
    value: np.ndarray   # float64

    @property
    def kept(self) -> np.ndarray:
        """Numbers of the samples that stay, rising."""
        return np.flatnonzero(self.fate == KEPT)


def decide(job: Job) -> Decision:
    """All parts must be there. The decision is stored for `kept_samples`, and read again when it is there."""
    path = job.folder / "decision.npz"
    if path.exists():
        with np.load(path, allow_pickle=False) as found:
            return Decision(found["fate"], found["of"], found["value"])
    fate = np.concatenate([np.zeros(0, np.int16), *(load_column(job, part, "fate") for part in range(job.num_parts))])
    of, value = np.full(len(fate), -1, np.int64), np.zeros(len(fate))
    for s, step in enumerate(job.steps, 1):
        if isinstance(step, Search):
            rows, owner = _gather(job, s, fate)
            if len(rows):
                copies = step.find(rows, owner, job.view)
                fate[copies.number], of[copies.number], value[copies.number] = s, copies.of, copies.value
    file = BytesIO()
    np.save(file, np.flatnonzero(fate == KEPT), allow_pickle=False)
    atomic_write(job.folder / "kept.npy", file.getvalue())
    file = BytesIO()
    np.savez(file, fate=fate, of=of, value=value)
    atomic_write(path, file.getvalue())
    return Decision(fate, of, value)


def kept_samples(job: Job, start: int, stop: int) -> list[int]:
    """Numbers of the samples that stay, from the `start`-th to before the `stop`-th; reads only these from the disk."""
    return np.load(job.folder / "kept.npy", mmap_mode="r", allow_pickle=False)[start:stop].tolist()


def _gather(job: Job, s: int, fate: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows of search `s` of all samples that got so far, and the number of the sample each belongs to."""
    owners = [np.repeat(np.asarray(job.part_range(part)), load_column(job, part, f"count{s}")) for part in range(job.num_parts)]
    alive = [fate[owner] > s for owner in owners]
    rows, at = np.zeros((0, 0)), 0  # filled part by part, because joining a list would hold all signatures twice
    for part, chosen in enumerate(alive):
        if chosen.any():
            found = load_column(job, part, f"rows{s}")[chosen]
            if not at:
                rows = np.empty((sum(int(a.sum()) for a in alive), found.shape[1]), found.dtype)
            rows[at:at + len(found)] = found
            at += len(found)
    return rows, np.concatenate([np.zeros(0, np.int64), *(o[a] for o, a in zip(owners, alive, strict=True))])
