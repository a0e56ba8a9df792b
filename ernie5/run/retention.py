"""Which checkpoints a folder holds, which leftovers may be cleaned away and which old ones may go.

    step-00001000/            a checkpoint once it holds COMMIT, else a leftover of a crash
    .tmp-…/                   being written, or being removed
    .replaced-step-00001000/  the former checkpoint of a step that is being saved again

Order is by the step in the name, never by a clock. There is one writer (`lock.run_lock`), so whatever `.tmp-` a save finds is stale,
but for the one that its own ranks fill.
"""

from __future__ import annotations

import logging
import re
import shutil
from pathlib import Path

from ernie5.run.files import sync_folder
from ernie5.run.manifest import COMMIT
from ernie5.run.manifest_read import check_sizes, verify

log = logging.getLogger(__name__)

_STEP = re.compile(r"(\.replaced-)?(step-(\d{8,18}))")


def step_folder(folder: Path, step: int) -> Path:
    """Where the checkpoint of this step lies."""
    return folder / f"step-{step:08d}"


def replaced_folder(folder: Path, step: int) -> Path:
    """Where its predecessor waits while the same step is saved again."""
    return folder / f".replaced-step-{step:08d}"


def list_steps(folder: Path) -> list[int]:
    """Steps of all committed checkpoints, ascending. Looks for COMMIT only: `load_checkpoint` checks the contents."""
    return sorted({step for step, _ in _committed(folder)})


def newest_first(folder: Path) -> list[Path]:
    """Committed checkpoint folders, newest step first; for a step that was being saved again, the new one before the old one."""
    found = sorted(_committed(folder), key=lambda item: (-item[0], item[1].name.startswith(".")))
    return [path for _, path in found]


def tidy(folder: Path, spare: Path | None = None) -> None:
    """Remove what crashed saves and removals left behind (but for the folder `spare`, which others may fill already), and put a replaced
    checkpoint back when its successor is no good.
    """
    for path in sorted(folder.glob(".tmp-*")):
        if path != spare:
            _remove(path)
    for path in sorted(folder.iterdir()):
        match = _STEP.fullmatch(path.name)
        if match and match[1]:
            successor = folder / match[2]
            if is_good(successor):
                _remove(path)
            else:
                _remove(successor)
                path.rename(successor)
        elif match and not (path / COMMIT).exists():
            _remove(path)


def prune(folder: Path, keep_last: int, saved: int) -> None:
    """Remove all but the `keep_last` newest checkpoints; never the one just `saved`, and never the last one that verifies.

    Of the one just saved every byte was hashed a moment ago, so its sizes are enough.
    """
    steps = list_steps(folder)
    kept = {*steps[-keep_last:], saved}
    old = [step for step in steps if step not in kept]
    if old and not _is_there(step_folder(folder, saved)) and not any(is_good(step_folder(folder, s)) for s in sorted(kept, reverse=True)):
        good = next((step for step in reversed(old) if is_good(step_folder(folder, step))), None)
        log.error("%s: none of the checkpoints %s can be read back; keeping step %s as well", folder, sorted(kept), good)
        old = [step for step in old if step != good]
    for step in old:
        _remove(step_folder(folder, step))


def remove_replaced(folder: Path, step: int) -> None:
    """Remove the former checkpoint of a step once the new one is committed; put it back should that be gone already."""
    if not replaced_folder(folder, step).exists():
        return
    if _is_there(step_folder(folder, step)):
        _remove(replaced_folder(folder, step))
    else:
        tidy(folder)


def discard_after(folder: Path, step: int) -> list[int]:
    """Remove the checkpoints of later steps, after a rollback to `step`: they belong to a history that no longer happened."""
    later = [found for found in list_steps(folder) if found > step]
    for found in later:
        _remove(step_folder(folder, found))
        _remove(replaced_folder(folder, found))
    return later


def is_good(path: Path) -> bool:
    """Whether a checkpoint folder verifies."""
    try:
        verify(path)
    except (ValueError, OSError):
        return False
    return True


def _is_there(path: Path) -> bool:
    """Whether manifest and lengths of a checkpoint folder are right."""
    try:
        check_sizes(path)
    except (ValueError, OSError):
        return False
    return True


def _committed(folder: Path) -> list[tuple[int, Path]]:
    if not folder.is_dir():
        return []
    matches = ((_STEP.fullmatch(path.name), path) for path in folder.iterdir())
    return [(int(match[3]), path) for match, path in matches if match and (path / COMMIT).exists()]


def _remove(path: Path) -> None:
    """Out of sight by one rename, then deleted: a crash half way leaves a `.tmp-` and no half checkpoint. Failure is not worth a run."""
    if not path.exists():
        return
    try:
        hidden = path if path.name.startswith(".tmp-") else path.with_name(f".tmp-remove-{path.name}")
        path.rename(hidden)
        sync_folder(path.parent)
        shutil.rmtree(hidden)
    except OSError as error:
        log.warning("%s could not be removed: %s", path, error)
