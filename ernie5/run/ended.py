"""ended.json: a run whose data came to their end before the last step of its recipe. Without it, such a run looks like an interrupted one.

    {"step": 18}

It speaks of one step: once the run goes on from there (more epochs, more sources) and saves, it means nothing. Ours.
"""

from __future__ import annotations

import json

from ernie5.run.files import atomic_write
from ernie5.run.folder import RunFolder


def note_end(folder: RunFolder, step: int) -> None:
    """The data gave no step after `step`, which is saved."""
    atomic_write(folder.ended, json.dumps({"step": step}).encode())


def forget_end(folder: RunFolder) -> None:
    """The run goes on, with the same data or more."""
    folder.ended.unlink(missing_ok=True)


def ended_step(folder: RunFolder) -> int | None:
    """The step after which the data ended; None when they did not, or the file is damaged."""
    try:
        step = json.loads(folder.ended.read_bytes())["step"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return step if isinstance(step, int) else None
