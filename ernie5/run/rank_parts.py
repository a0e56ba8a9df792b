"""How the processes of one save find each other: through small files in the staging folder, which all of them see.

    part-00001.json     rank 1 has written its tensor files and says their hashes, or says why it could not
    (the folder goes)   rank 0 has published or given up; then the manifest in the final folder names this attempt, or another one

Every wait ends: after `wait_s`, or when `stop` is set. Ours.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Event

from ernie5.run.files import atomic_write
from ernie5.run.manifest import COMMIT, MANIFEST, FileEntry, TensorEntry
from ernie5.run.manifest_read import file_entry, tensor_entry

WAIT_S = 1800.0


class SaveFailed(ValueError):
    """Another process failed, or was not heard of."""


@dataclass(frozen=True)
class RankPart:
    """What one process has written; with an `error` it has written nothing."""

    error: str = ""
    files: dict[str, FileEntry] = field(default_factory=dict)
    tensors: dict[str, TensorEntry] = field(default_factory=dict)


@dataclass(frozen=True)
class Patience:
    """How long to wait for the others, and what ends every wait at once."""

    wait_s: float = WAIT_S
    stop: Event = field(default_factory=Event)

    def until(self, done: Callable[[], bool], missing: Callable[[], str]) -> None:
        """Return when `done()`. SaveFailed naming what is `missing()` when patience ends."""
        end, pause_s = time.monotonic() + self.wait_s, 0.005
        while not done():
            if self.stop.is_set():
                raise SaveFailed(f"this process ends; nobody waits for {missing()} any more")
            if time.monotonic() > end:
                raise SaveFailed(f"nothing was heard of {missing()} in {self.wait_s:g} s")
            self.stop.wait(pause_s)
            pause_s = min(2 * pause_s, 0.5)


def part_name(rank: int) -> str:
    """`part-00001.json`"""
    return f"part-{rank:05d}.json"


def put_part(staging: Path, rank: int, part: RankPart) -> None:
    """Say what this rank has done."""
    atomic_write(staging / part_name(rank), json.dumps(asdict(part)).encode())


def collect_parts(staging: Path, size: int, patience: Patience) -> list[RankPart]:
    """What ranks 1 … size - 1 have done, waiting for all of them, the failed ones too: afterwards nobody writes any more."""
    wanted = {part_name(rank) for rank in range(1, size)}

    def missing() -> set[str]:
        return wanted - {path.name for path in staging.iterdir()}

    patience.until(lambda: not missing(), lambda: ", ".join(f"rank {int(name[5:10])}" for name in sorted(missing())[:8]))
    parts = []
    for rank in range(1, size):
        path = staging / part_name(rank)
        try:
            plain = json.loads(path.read_bytes())
            part = RankPart(
                str(plain["error"]), {name: file_entry(f) for name, f in plain["files"].items()},
                {name: tensor_entry(t) for name, t in plain["tensors"].items()})
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            part = RankPart(f"{path.name} is damaged: {error!r}")
        path.unlink()
        parts.append(part)
    return parts


def await_outcome(staging: Path, final: Path, attempt: str, patience: Patience) -> None:
    """For the ranks other than 0: return when this attempt is committed. SaveFailed when rank 0 gave up."""

    def decided() -> bool:
        return not staging.exists() and (not _is_ours(final, attempt) or (final / COMMIT).exists())

    patience.until(decided, lambda: "rank 0")
    if not _is_ours(final, attempt):
        raise SaveFailed("another process could not save its part; its log says why")


def _is_ours(final: Path, attempt: str) -> bool:
    """Whether the final folder, committed or about to be, is what this attempt wrote."""
    try:
        plain = json.loads((final / MANIFEST).read_bytes())
    except (OSError, ValueError):
        return False
    return bool(plain.get("attempt") == attempt)
