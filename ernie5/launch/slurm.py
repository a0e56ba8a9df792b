"""A batch script for Slurm: one `ernie5 launch` per node, started again after a crash, put back into the queue after a stop.

    sbatch  ->  bash: for attempt in 0 … N: srun one launcher per node  ->  its ranks

Slurm warns the script with SIGUSR1 `WARN_S` before the time limit (and on preemption, where it is set up to); the script hands it to the
launchers, the run is saved, exit code 75 puts the job back into the queue. `--kill-on-bad-exit` ends all nodes when one fails, and the
loop starts all of them again: crashes (any code but 0, 2, 75) at most `restarts` times.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

WARN_S = 300


@dataclass(frozen=True)
class SlurmConfig:
    """What the job asks for; None: Slurm's own default. `gpus` and `cpus` per node and `time` as in sbatch."""

    nodes: int
    processes: int
    gpus: int
    cpus: int | None = None
    partition: str | None = None
    account: str | None = None
    time: str | None = None

    def check(self) -> None:
        """ValueError for words that would become more than one option."""
        for key in ("partition", "account", "time"):
            value = getattr(self, key)
            if value is not None and (not value or any(c.isspace() for c in value)):
                raise ValueError(f"--{key} {value!r} must be one word, as sbatch --{key} takes it")


def batch_script(words: Sequence[str], config: SlurmConfig, name: str, logs: Path, folder: Path, restarts: int) -> str:
    """The text of the script that runs `ernie5 launch WORDS` on every node, from `folder`."""
    asked = {
        "job-name": name, "nodes": config.nodes, "ntasks-per-node": 1, "gpus-per-node": config.gpus or None, "cpus-per-task": config.cpus,
        "partition": config.partition, "account": config.account, "time": config.time, "output": f"{logs}/slurm-%j.log",
    }
    options = [f"#SBATCH --{key}={_quoted(str(value))}" for key, value in asked.items() if value is not None]
    size = ["--processes", str(config.processes), "--nodes", str(config.nodes)]
    command = shlex.join([sys.executable, "-m", "ernie5", "launch", *words, *size])
    rest = _REST.format(folder=shlex.quote(str(folder)), command=command, restarts=restarts, warn=WARN_S)
    return "\n".join(["#!/bin/bash", *options, rest])


_REST = """#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@{warn}

cd {folder} || exit 2
stopped=
trap 'stopped=1; kill -USR1 "$step" 2>/dev/null' USR1 TERM    # srun hands it to the launchers
master=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1):$((20000 + SLURM_JOB_ID % 20000))

for attempt in $(seq 0 {restarts}); do
    srun --kill-on-bad-exit=1 {command} --master "$master" &
    step=$!
    while true; do
        wait "$step"
        code=$?
        kill -0 "$step" 2>/dev/null || break    # a signal ends wait, not the step
    done
    case $code in 0 | 2 | 75) break ;; esac
    [ -n "$stopped" ] && break
done

if [ "$code" = 75 ] || {{ [ -n "$stopped" ] && [ "$code" != 0 ] && [ "$code" != 2 ]; }}; then
    exec scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""


def _quoted(value: str) -> str:
    """As sbatch reads it in a script: quotes around what has spaces."""
    return f'"{value}"' if any(c.isspace() for c in value) else value


def submit(script: Path) -> str:
    """Hand the script to sbatch; what it answers. ValueError where there is no sbatch, or it refuses."""
    sbatch = shutil.which("sbatch")
    if sbatch is None:
        raise ValueError(f"there is no sbatch on this machine; run `sbatch {shlex.quote(str(script))}` where Slurm is")
    done = subprocess.run([sbatch, str(script)], capture_output=True, text=True)
    if done.returncode != 0:
        raise ValueError(f"sbatch refused {script}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout.strip()
