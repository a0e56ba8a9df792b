"""The rank processes of one node, started by torch's elastic launcher, until all have ended or the first one has failed.

One process of the job (node 0's launcher) holds torch's store, in which the ranks of all nodes find each other. A rank that fails ends all
ranks of the node: those that are there after `GRACE_S` get SIGKILL, with all their processes, so that a stopped rank goes as well.
The output of rank 0 is the console's, that of rank N goes to logs/rank-N.out and .err beside its log.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch.distributed import TCPStore
from torch.distributed.elastic.multiprocessing import LogsDest, LogsSpecs, SubprocessContext

from ernie5.run.failure import ERROR_FILE
from ernie5.run.signals import EXIT_STOPPED

GRACE_S = 0.5       # what a rank does after another one has failed is lost anyway
LEAVE_S = 60.0      # between the first and the last rank that leave in peace
POLL_S = 0.1
os.environ["TORCHELASTIC_SIGNALS_TO_HANDLE"] = "SIGQUIT"  # the others are supervise.py's
logging.getLogger("torch.distributed.elastic.multiprocessing.api").setLevel(logging.CRITICAL)  # we say it shorter


@dataclass(frozen=True)
class Node:
    """Which part of the job runs here. `master`: host and port of node 0's store (port 0 = any free one, on one node)."""

    processes: int
    nodes: int = 1
    node: int = 0
    master: tuple[str, int] = ("127.0.0.1", 0)

    @property
    def first_rank(self) -> int:
        """The lowest rank of this node."""
        return self.node * self.processes

    @property
    def size(self) -> int:
        """Processes of the whole job."""
        return self.nodes * self.processes


@dataclass(frozen=True)
class Exit:
    """How the ranks of this node ended. `codes`: by rank, as far as they ended of themselves: exit code (negative: signal) and when the
    rank was last seen alive, in ns since the epoch. `notes`: the folder where all ranks of the job note their failures.
    """

    codes: dict[int, tuple[int, int]]
    notes: Path


class RankFiles(LogsSpecs):
    """Where each rank of a node writes."""

    def __init__(self, logs: Path, notes: Path, first_rank: int) -> None:
        super().__init__(str(logs))
        self.logs, self.notes, self.first_rank = logs, notes, first_rank

    @property
    def root_log_dir(self) -> str:
        """Its folder."""
        return str(self.logs)

    def reify(self, envs: dict[int, dict[str, str]]) -> LogsDest:
        """Paths by local rank; an empty path is the console. The ranks learn from their environment where their note belongs."""
        dest = LogsDest()
        for local, environment in envs.items():
            rank = self.first_rank + local
            dest.stdouts[local] = str(self.logs / f"rank-{rank}.out") if rank else ""
            dest.stderrs[local] = str(self.logs / f"rank-{rank}.err") if rank else ""
            dest.error_files[local] = environment[ERROR_FILE] = str(self.notes / f"rank-{rank}.json")
        return dest


def run_ranks(words: Sequence[str], node: Node, logs: Path, attempt: int, started: Callable[[list[int]], None]) -> Exit:
    """Run `python -m ernie5 WORDS` in every rank of this node. `started` is called once with their process ids."""
    host, port = node.master
    store = TCPStore(host, port, is_master=node.node == 0, wait_for_workers=False)
    if node.node == 0:
        for old in logs.glob(".failed-*"):
            shutil.rmtree(old, ignore_errors=True)
        store.set("notes", f".failed-{uuid.uuid4().hex[:12]}")
    notes = logs / store.get("notes").decode()
    notes.mkdir(exist_ok=True)
    shared = {
        "WORLD_SIZE": str(node.size), "LOCAL_WORLD_SIZE": str(node.processes), "GROUP_RANK": str(node.node),
        "MASTER_ADDR": host, "MASTER_PORT": str(store.port), "TORCHELASTIC_USE_AGENT_STORE": "True",
        "TORCHELASTIC_RESTART_COUNT": str(attempt), "ERNIE5_LAUNCHED": "1",
    }
    if node.processes > 1:  # else each of them takes all cores
        shared["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // node.processes)))
    envs = {local: {**shared, "RANK": str(node.first_rank + local), "LOCAL_RANK": str(local)} for local in range(node.processes)}
    command = ("-m", "ernie5", *words)
    ranks = SubprocessContext("ernie5", sys.executable, dict.fromkeys(envs, command), envs, RankFiles(logs, notes, node.first_rank))
    try:
        ranks.start()
        started(list(ranks.pids().values()))
        codes = _wait(ranks, notes)
    finally:
        ranks.close(signal.SIGKILL)  # what is left
    return Exit({node.first_rank + local: code for local, code in codes.items()}, notes)


def _wait(ranks: SubprocessContext, notes: Path) -> dict[int, tuple[int, int]]:
    """Until a rank has failed (it notes that before it ends), or all have ended; `Exit.codes` by local rank."""
    codes: dict[int, tuple[int, int]] = {}
    alive_ns, until_s = time.time_ns(), float("inf")
    while True:
        now_ns = time.time_ns()
        for local, handler in ranks.subprocess_handlers.items():
            if local not in codes and (code := handler.proc.poll()) is not None:
                codes[local] = (code, alive_ns)
        alive_ns = now_ns
        stopped = any(code == EXIT_STOPPED for code, _ in codes.values())
        crashed = any(code not in (0, EXIT_STOPPED) for code, _ in codes.values()) or any(notes.glob("*.json"))
        if stopped or crashed:
            until_s = min(until_s, time.monotonic() + (GRACE_S if crashed else LEAVE_S))
        if len(codes) == ranks.nprocs or time.monotonic() > until_s:
            return codes
        time.sleep(POLL_S)
