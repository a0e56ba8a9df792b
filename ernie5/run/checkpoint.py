"""Checkpoints without pickle that are either whole or absent, and that notice a single flipped bit.

    checkpoints/step-00001000/   tensors-00000.safetensors …   state.json   manifest.json   COMMIT
                                 (tensors-RANK-00000.safetensors … where several processes saved together)

Saving: save.py. Load: every byte of every file is hashed and every header compared with the manifest before anything is handed out, by
all processes of the team together; then each reads the boxes that it needs, whatever boxes were saved. `latest_checkpoint` falls back
to the newest good one, for all processes the same, and says so.

Ours: the report says nothing about checkpoints.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import Tensor

from ernie5.run.boxes import Shape
from ernie5.run.files import read_regular
from ernie5.run.manifest import STATE, CheckpointError, Manifest, UnknownVersion
from ernie5.run.manifest_read import check_file, read_manifest
from ernie5.run.retention import list_steps, newest_first, replaced_folder, step_folder
from ernie5.run.save import no_hook, save_checkpoint
from ernie5.run.state_json import JSON, decode_state
from ernie5.run.team import ALONE, Team
from ernie5.run.tensor_reader import TensorReader

__all__ = ["Checkpoint", "CheckpointError", "latest_checkpoint", "list_steps", "load_checkpoint", "no_hook", "save_checkpoint"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint: its state, and a `Reader` of its tensors, which stay on disk until they are read."""

    step: int
    state: dict[str, JSON]
    manifest: Manifest
    reader: TensorReader

    @property
    def shapes(self) -> Mapping[str, Shape]:
        """Name -> shape of the whole tensor."""
        return self.reader.shapes

    def read(self, name: str, at: Shape | None = None, shape: Shape | None = None) -> Tensor:
        """A box of a tensor, or all of it, in memory of its own on the CPU. KeyError for an unknown name."""
        return self.reader.read(name, at, shape)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors, whole, in memory: for tools that are one process."""
        return {name: self.read(name) for name in self.manifest.tensors}


def load_checkpoint(path: Path, team: Team = ALONE) -> Checkpoint:
    """The checkpoint in the folder `path`; all processes of the team call it, and each hashes its share of the files.

    CheckpointError, on all of them, naming what is missing, changed or from another step (or that another process found it).
    """
    path = Path(path)
    found, failure = _verify(path, team)
    damaged, unknown = team.add([failure is not None, isinstance(failure, UnknownVersion)])
    if isinstance(failure, UnknownVersion):
        raise CheckpointError(str(failure)) from failure
    if failure is not None:
        steps = list_steps(path.parent)
        hint = "" if path.exists() else f"; committed steps in {path.parent}: {', '.join(map(str, steps)) or 'none'}"
        raise CheckpointError(f"checkpoint {path} cannot be used: {failure}{hint}")
    if unknown:
        raise CheckpointError(f"checkpoint {path} is of a later format to another process") from UnknownVersion()
    if damaged or found is None:
        raise CheckpointError(f"checkpoint {path} cannot be used: another process found it damaged and says how")
    return found


def latest_checkpoint(folder: Path, team: Team = ALONE) -> Checkpoint | None:
    """The newest checkpoint of `folder` that verifies, None where there is none. Older ones are tried when the newest is damaged, loudly.

    Rank 0 says which ones there are; the team tries them in its order, and all get the same one.
    CheckpointError when there are checkpoints and none can be used, or when the newest was written by a later ernie5.
    """
    failures: list[str] = []
    for path in _candidates(Path(folder), team):
        try:
            checkpoint = load_checkpoint(path, team)
        except CheckpointError as error:
            if isinstance(error.__cause__, UnknownVersion):
                raise
            log.error("%s", error)
            failures.append(str(error))
            continue
        if failures:
            log.warning("falling back to the checkpoint of step %d (%d newer one(s) damaged)", checkpoint.step, len(failures))
        return checkpoint
    if failures:
        raise CheckpointError(f"none of the {len(failures)} checkpoint(s) in {folder} can be used:\n" + "\n".join(failures))
    return None


def _verify(path: Path, team: Team) -> tuple[Checkpoint | None, Exception | None]:
    """This process's share: the manifest, and every size-th file. What is wrong is handed back, because the others wait for an answer."""
    try:
        manifest = read_manifest(path)
        reader = TensorReader(path, manifest)
        for name in sorted(manifest.files)[team.rank :: team.size]:
            check_file(path, name, manifest.files[name])
            if name != STATE:
                reader.open(name)
        state = decode_state(read_regular(path / STATE, manifest.files[STATE].num_bytes))
        return Checkpoint(manifest.step, state, manifest, reader), None
    except (ValueError, OSError) as error:
        return None, error


def _candidates(folder: Path, team: Team) -> list[Path]:
    """Committed folders as rank 0 sees them, newest first; the same list for all."""
    own = newest_first(folder) if team.rank == 0 else []
    (length,) = team.of_first([len(own)])
    plain = [int(path.name.rpartition("-")[2]) * 2 + path.name.startswith(".") for path in own]
    said = team.of_first(plain if team.rank == 0 else [0] * length)
    return [(replaced_folder if number % 2 else step_folder)(folder, number // 2) for number in said]
