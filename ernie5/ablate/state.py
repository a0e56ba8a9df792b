"""How far a run of an ablation is, from its folder alone. Ours."""

from __future__ import annotations

import json
import socket

from ernie5.run.checkpoint import list_steps
from ernie5.run.ended import ended_step
from ernie5.run.folder import RunFolder
from ernie5.run.lock import process_start
from ernie5.train.evaluate import evaluated_step

TAIL_BYTES = 2**14


def is_finished(folder: RunFolder, steps: int) -> bool:
    """Whether the last of `steps` steps, or the last that its data gave, is saved and evaluated."""
    saved = list_steps(folder.checkpoints)[-1:]
    return saved in ([steps], [ended_step(folder)]) and evaluated_step(folder) == saved[0]


def last_step(folder: RunFolder) -> int:
    """The last step in metrics.jsonl, 0 before the first; reads the end of the file only."""
    if not folder.metrics.exists():
        return 0
    with open(folder.metrics, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - TAIL_BYTES))
        lines = file.read().split(b"\n")
    for line in reversed(lines):
        try:
            return int(json.loads(line)["step"])
        except (ValueError, KeyError, TypeError):
            continue  # torn, or cut by where reading began
    return 0


def holder(folder: RunFolder) -> int | None:
    """The process of this machine that holds the run's lock; None when there is none, or it is gone."""
    try:
        other = json.loads(folder.lock.read_bytes() or b"null")
        if other is None or other["host"] != socket.gethostname():
            return None
        return int(other["pid"]) if process_start(int(other["pid"])) == other["started"] is not None else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
