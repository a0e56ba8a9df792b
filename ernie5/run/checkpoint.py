"""Checkpoints without pickle that are either whole or absent, and that notice a single flipped bit.

    checkpoints/step-00001000/   tensors-00000.safetensors …   state.json   manifest.json   COMMIT

Save: write to `.tmp-step-…/`, fsync every file and the folder, rename, then COMMIT. Whatever moment the process dies, the last
committed checkpoint is untouched and the torso is ignored, then removed by the next save.
Load: every byte is read once and checked against the manifest before anything is returned; `latest_checkpoint` falls back to the newest
good one and says so. `hook(site)` is called before every step of a save, so that tests can crash there.

Ours: the report says nothing about checkpoints.
"""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from ernie5.run.files import atomic_write, sync_and_hash, sync_folder
from ernie5.run.manifest import COMMIT, MANIFEST, STATE, FileEntry, Manifest, TensorEntry, UnknownVersion, read_files, read_manifest
from ernie5.run.retention import list_steps, newest_first, prune, replaced_folder, step_folder, tidy
from ernie5.run.state_json import JSON, decode_state, encode_state
from ernie5.run.tensor_files import FILE_BYTES, check_tensors, decode, split, write

__all__ = ["Checkpoint", "CheckpointError", "latest_checkpoint", "list_steps", "load_checkpoint", "no_hook", "save_checkpoint"]

log = logging.getLogger(__name__)


class CheckpointError(ValueError):
    """A checkpoint could not be saved, or one on disk cannot be trusted."""


@dataclass(frozen=True)
class Checkpoint:
    """A verified checkpoint, in CPU memory."""

    step: int
    tensors: dict[str, Tensor]
    state: dict[str, JSON]
    manifest: Manifest


def no_hook(site: str) -> None:
    """Nothing happens at any site."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor], state: dict[str, JSON], *,
    run_id: str, fingerprint: str, keep_last: int = 2, file_bytes: int = FILE_BYTES, hook: Callable[[str], None] = no_hook,
) -> Path:
    """Save step `step` into `folder` (a run's `checkpoints/`), then drop all but the newest `keep_last`. Returns its folder.

    CheckpointError: inf or nan in a tensor (named), a state that JSON cannot hold, or a disk that failed (full, read-only). Then
    nothing of the new checkpoint stays, the older ones are untouched, and training may go on.
    """
    if step < 0 or keep_last < 1:
        raise CheckpointError(f"step = {step} must be >= 0 and keep_last = {keep_last} must be >= 1")
    try:
        check_tensors(tensors)
        state_json = encode_state(state)
    except ValueError as error:
        raise CheckpointError(f"step {step} is not saved: {error}") from None
    folder, final = Path(folder), step_folder(Path(folder), step)
    staging = folder / f".tmp-{final.name}-{os.getpid()}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tidy(folder)
        commit = _stage(staging, tensors, state_json, run_id, step, fingerprint, file_bytes, hook)
        _publish(staging, final, replaced_folder(folder, step), commit, hook)
    except OSError as error:
        shutil.rmtree(staging, ignore_errors=True)
        raise CheckpointError(f"step {step} could not be saved in {folder}: {error.strerror or error}; older checkpoints are untouched, "
                              "make room or choose another disk") from error
    hook("prune")
    if replaced_folder(folder, step).exists():
        tidy(folder)
    prune(folder, keep_last, step)
    hook("done")
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """The checkpoint in the folder `path`. CheckpointError naming what is missing, changed or from another step."""
    path = Path(path)
    try:
        return _load(path)
    except UnknownVersion as error:
        raise CheckpointError(str(error)) from error
    except (ValueError, OSError) as error:
        steps = list_steps(path.parent)
        hint = "" if path.exists() else f"; committed steps in {path.parent}: {', '.join(map(str, steps)) or 'none'}"
        raise CheckpointError(f"checkpoint {path} cannot be used: {error}{hint}") from None


def latest_checkpoint(folder: Path) -> Checkpoint | None:
    """The newest checkpoint of `folder` that verifies, None where there is none. Older ones are tried when the newest is damaged, loudly.

    CheckpointError when there are checkpoints and none can be used, or when the newest was written by a later ernie5.
    """
    failures: list[str] = []
    for path in newest_first(Path(folder)):
        try:
            checkpoint = load_checkpoint(path)
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


def _stage(staging: Path, tensors: Mapping[str, Tensor], state_json: bytes, run_id: str, step: int, fingerprint: str,
           file_bytes: int, hook: Callable[[str], None]) -> str:
    """Write everything but COMMIT into the staging folder; the hash of the manifest."""
    hook("stage")
    staging.mkdir()
    files: dict[str, FileEntry] = {}
    entries: dict[str, TensorEntry] = {}

    def put(name: str, save: Callable[[Path], object]) -> None:
        hook(f"write:{name}")
        save(staging / name)
        hook(f"sync:{name}")
        files[name] = FileEntry(*sync_and_hash(staging / name))

    for i, group in enumerate(split(tensors, file_bytes)):
        name = f"tensors-{i:05d}.safetensors"
        put(name, partial(write, tensors=group))
        entries |= _entries(name, group)
    put(STATE, lambda path: path.write_bytes(state_json))
    manifest = Manifest(run_id, step, fingerprint, dict(files), entries).encode()
    put(MANIFEST, lambda path: path.write_bytes(manifest))
    sync_folder(staging)
    return files[MANIFEST].sha256


def _publish(staging: Path, final: Path, replaced: Path, commit: str, hook: Callable[[str], None]) -> None:
    """Rename, then commit; an older checkpoint of the same step waits aside until then."""
    hook("replace")
    if final.exists():
        final.rename(replaced)
    try:
        hook("rename")
        staging.rename(final)
        sync_folder(final.parent)
        hook("commit")
        atomic_write(final / COMMIT, f"{commit}\n".encode())
    except OSError:
        shutil.rmtree(final, ignore_errors=True)
        if replaced.exists():
            replaced.rename(final)
        raise


def _load(path: Path) -> Checkpoint:
    manifest = read_manifest(path)
    tensors: dict[str, Tensor] = {}
    entries: dict[str, TensorEntry] = {}
    state: dict[str, JSON] = {}
    for name, data in read_files(path, manifest):
        if name == STATE:
            state = decode_state(data)
            continue
        group = decode(data, sum(entry.file == name for entry in manifest.tensors.values()))
        tensors |= group
        entries |= _entries(name, group)
    wrong = [key for key in manifest.tensors.keys() | entries.keys() if entries.get(key) != manifest.tensors.get(key)]
    if wrong:
        raise ValueError(f"tensor {min(wrong)} is not what the manifest says")
    return Checkpoint(manifest.step, {key: tensors[key] for key in manifest.tensors}, state, manifest)


def _entries(file: str, group: Mapping[str, Tensor]) -> dict[str, TensorEntry]:
    return {key: TensorEntry(file, tuple(tensor.shape), str(tensor.dtype).removeprefix("torch.")) for key, tensor in group.items()}
