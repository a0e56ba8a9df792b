"""One process per run folder: a lock file that names its holder (pid, host and when that process started).

    with run_lock(folder.lock): ...

A holder that no longer lives on this host (killed, rebooted, its pid given to another process) is taken over with a warning. A holder on
another host cannot be asked, so it is refused and the message says what to delete, unless it was an earlier run of this Slurm job, which
Slurm has ended before it put the job back into the queue. Deciding and writing happen under a short flock.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

log = logging.getLogger(__name__)


@contextmanager
def run_lock(path: Path) -> Iterator[None]:
    """Hold the lock file `path` until the block ends. ValueError naming the other process when the folder is in use."""
    me: dict[str, str | int | None] = {"pid": os.getpid(), "host": socket.gethostname(), "started": process_start(os.getpid()),
                                       "job": _slurm_job()}
    with open(path, "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = _read(file)
        if other and _may_live(other):
            where = "" if other["host"] == me["host"] else f" (if that machine is gone, delete {path})"
            raise ValueError(f"{path.parent} is in use by process {other['pid']} on {other['host']}; "
                             f"wait for it, stop it or choose another folder{where}")
        if other:
            log.warning("%s: process %s on %s is gone; taking over", path.parent, other["pid"], other["host"])
        _write(file, me)
    try:
        yield
    finally:
        with open(path, "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if _read(file) == me:
                _write(file, None)


def process_start(pid: int) -> str | None:
    """A text that no other process with this pid shares (boot id and start time), None when there is no such process."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except (PermissionError, OverflowError):
        pass
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "alive"  # no /proc on this system: a pid in use counts as the same process
    return None if fields[0] == "Z" else f"{boot}:{fields[19]}"  # state, start time; a zombie holds nothing any more


def _may_live(other: dict[str, str | int | None]) -> bool:
    if other["host"] != socket.gethostname():
        job, _, run = str(other["job"] or "").partition(".")
        mine, _, my_run = (_slurm_job() or "").partition(".")
        return not (job and job == mine and run != my_run)
    return process_start(int(other["pid"] or 0)) == other["started"] is not None


def _slurm_job() -> str | None:
    """JOB.RUN: which job of Slurm this is, and how many times it was put back into the queue."""
    job = os.environ.get("SLURM_JOB_ID")
    return f"{job}.{os.environ.get('SLURM_RESTART_COUNT', '0')}" if job else None


def _read(file: BinaryIO) -> dict[str, str | int | None] | None:
    """The holder, None for a free lock; a torn text (its writer died while writing) is free as well."""
    file.seek(0)
    try:
        holder = json.loads(file.read(4096) or b"null")
        if not holder:
            return None
        return {"pid": int(holder["pid"]), "host": str(holder["host"]), "started": holder["started"], "job": holder.get("job")}
    except (ValueError, KeyError, TypeError):
        return None


def _write(file: BinaryIO, holder: dict[str, str | int | None] | None) -> None:
    file.truncate(0)
    if holder:
        file.write(json.dumps(holder).encode())
    file.flush()
    os.fsync(file.fileno())
