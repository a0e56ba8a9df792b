"""Saving a checkpoint, alone or with others: whatever moment a process dies, the last committed one is untouched.

    .tmp-step-…-ATTEMPT/   every rank writes and syncs its own tensor files, then says so in a small part file (rank_parts.py)
    rank 0                 waits for all parts, merges the manifest, renames the folder, writes COMMIT, removes what is too old

A torso is ignored, and removed by the next save. `hook(site)` is called before every step, so that tests can crash there. Ours.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path

from torch import Tensor

from ernie5.run.content import FILE_BYTES, Content, Part, look_through, split, whole
from ernie5.run.files import atomic_write, sync_and_hash, sync_folder
from ernie5.run.manifest import COMMIT, MANIFEST, STATE, CheckpointError, FileEntry, Manifest, PartEntry, TensorEntry, digest, merge_tensors
from ernie5.run.rank_parts import Patience, RankPart, SaveFailed, await_outcome, collect_parts, put_part
from ernie5.run.retention import prune, remove_replaced, replaced_folder, step_folder, tidy
from ernie5.run.state_json import JSON, encode_state
from ernie5.run.team import ALONE, Team
from ernie5.run.tensor_files import dtype_name, write

Hook = Callable[[str], None]


def no_hook(site: str) -> None:
    """Nothing happens at any site."""


def save_checkpoint(
    folder: Path, step: int, tensors: Mapping[str, Tensor] | Iterable[Part], state: dict[str, JSON], *,
    run_id: str, fingerprint: str, keep_last: int = 2, file_bytes: int = FILE_BYTES, hook: Hook = no_hook,
    team: Team = ALONE, attempt: str = "", patience: Patience | None = None,
) -> Path:
    """Save step `step` into `folder` (a run's `checkpoints/`), then drop all but the newest `keep_last`. Returns its folder.

    `tensors`: whole ones, or the parts that this process holds, which together with those of the rest of the `team` make up every
    tensor exactly once. All ranks call it, with one name of the `attempt` that no other save has; the state of rank 0 counts.
    CheckpointError, on every rank: inf or nan in a tensor (named), a state that JSON cannot hold, parts that do not fit together, a disk
    that failed (full, read-only), a rank that was not heard of. Then the older checkpoints are untouched, and training may go on.
    """
    if step < 0 or keep_last < 1:
        raise CheckpointError(f"step = {step} must be >= 0 and keep_last = {keep_last} must be >= 1")
    if team.size > 1 and not attempt:
        raise CheckpointError(f"{team.size} processes that save together need a common name of their attempt")
    content = look_through(whole(tensors) if isinstance(tensors, Mapping) else tensors)
    folder, final, attempt, patience = Path(folder), step_folder(Path(folder), step), attempt or str(os.getpid()), patience or Patience()
    staging = folder / f".tmp-{final.name}-{attempt}"
    try:
        state_json = encode_state(state) if team.rank == 0 else b""
    except ValueError as error:
        content, state_json = Content(failure=str(error)), b""
    if team.size == 1 and content.failure:
        raise CheckpointError(f"step {step} is not saved: {content.failure}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if team.rank == 0:
            tidy(folder, spare=staging)
        hook("stage")
        staging.mkdir(exist_ok=team.size > 1)
        mine = _write_part(staging, content, file_bytes, hook, team)
        if team.rank > 0:
            put_part(staging, team.rank, mine)
            await_outcome(staging, final, attempt, patience)
            return final
        if team.size > 1:
            hook("wait")
        parts = [mine, *collect_parts(staging, team.size, patience)]
        for rank, part in enumerate(parts):
            if part.error:
                raise SaveFailed(part.error if team.size == 1 else f"rank {rank}: {part.error}")
        tensors_of_all = merge_tensors(part.tensors for part in parts)
        files = {name: entry for part in parts for name, entry in part.files.items()}
        commit = _write_manifest(staging, Manifest(run_id, step, fingerprint, files, tensors_of_all, attempt), state_json, hook)
        _publish(staging, final, replaced_folder(folder, step), commit, hook)
    except (OSError, ValueError) as error:
        if team.rank == 0:
            shutil.rmtree(staging, ignore_errors=True)
        why = (error.strerror or error) if isinstance(error, OSError) else error
        raise CheckpointError(f"step {step} could not be saved in {folder}: {why}; older checkpoints are untouched"
                              + (", make room or choose another disk" if isinstance(error, OSError) else "")) from error
    hook("prune")
    remove_replaced(folder, step)
    prune(folder, keep_last, step)
    hook("done")
    return final


def _write_part(staging: Path, content: Content, file_bytes: int, hook: Hook, team: Team) -> RankPart:
    """Write and sync the tensor files of this rank. What fails is said in the result, and leaves no file of this rank behind."""
    if content.failure:
        return RankPart(content.failure)
    mark = f"{team.rank:05d}-" if team.size > 1 else ""
    files: dict[str, FileEntry] = {}
    tensors: dict[str, TensorEntry] = {}
    try:
        for i, group in enumerate(split(content.parts, file_bytes)):
            name = f"tensors-{mark}{i:05d}.safetensors"
            keyed = _with_keys(group)
            _put(staging, name, partial(write, tensors={key: part.data for key, part in keyed.items()}), files, hook)
            found = {
                key: TensorEntry(part.shape, dtype_name(part.data), (PartEntry(name, key, part.at, tuple(part.data.shape)),))
                for key, part in keyed.items()}
            tensors = merge_tensors([tensors, *({keyed[key].name: entry} for key, entry in found.items())])
        sync_folder(staging)
    except OSError as error:
        if team.size == 1:
            raise
        for path in staging.glob(f"tensors-{mark}*"):
            with suppress(OSError):
                path.unlink()  # this makes the room that the part file needs
        return RankPart(f"{error.strerror or error}")
    return RankPart("", files, tensors)


def _with_keys(group: list[Part]) -> dict[str, Part]:
    """The parts of one file by key: the tensor's name, and for further boxes of the same tensor where they begin as well."""
    keyed: dict[str, Part] = {}
    names = {part.name for part in group}
    for part in group:
        key = part.name
        while key in keyed or (key != part.name and key in names):
            key = f"{key}@{','.join(map(str, part.at))}"
        keyed[key] = part
    return keyed


def _write_manifest(staging: Path, manifest: Manifest, state_json: bytes, hook: Hook) -> str:
    """The state and the manifest, which must pass what it will be asked on load; the hash of the manifest."""
    files = dict(manifest.files)
    _put(staging, STATE, lambda path: path.write_bytes(state_json), files, hook)
    manifest = Manifest(manifest.run_id, manifest.step, manifest.fingerprint, files, manifest.tensors, manifest.attempt)
    manifest.check()
    manifest.keys()
    data = manifest.encode()
    _put(staging, MANIFEST, lambda path: path.write_bytes(data), files, hook)
    sync_folder(staging)
    return digest(data)


def _put(staging: Path, name: str, save: Callable[[Path], object], files: dict[str, FileEntry], hook: Hook) -> None:
    hook(f"write:{name}")
    save(staging / name)
    hook(f"sync:{name}")
    files[name] = FileEntry(*sync_and_hash(staging / name))


def _publish(staging: Path, final: Path, replaced: Path, commit: str, hook: Hook) -> None:
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
