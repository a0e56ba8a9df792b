"""Processes that stay: they import torch and the engines once, then run one function after another as the ranks of a world.

    pool.run(2, function, *args) -> [result of rank 0, result of rank 1]

The function gets a `World` first and must be importable by name (a module of tests/); arguments and results are copied. The error of the
first rank that fails is raised here, with its traceback; the processes are then replaced, because the others may hang in a collective. So
are processes in which engines have left many threads behind, because they slow each other down.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
SPAWN = get_context("spawn")
LIMIT_S = 240
MOST_THREADS = 90


class RankFailed(RuntimeError):
    """What a rank died of."""


class RankPool:
    """Processes are started when first needed; `close` ends them."""

    def __init__(self) -> None:
        self.ranks: list[tuple[Any, Connection]] = []

    def run(self, size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
        while len(self.ranks) < size:
            ours, theirs = SPAWN.Pipe()
            process = SPAWN.Process(target=serve, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self.ranks.append((process, ours))
        port = free_port()
        for rank, (_, connection) in enumerate(self.ranks[:size]):
            connection.send((rank, size, port, function.__module__, function.__name__, args))
        results: dict[int, Any] = {}
        threads = 0
        while len(results) < size:
            waiting = {connection: rank for rank, (_, connection) in enumerate(self.ranks[:size]) if rank not in results}
            ready = wait(list(waiting), timeout=LIMIT_S)
            if not ready:
                self.close()
                raise RankFailed(f"ranks {sorted(waiting.values())} gave no answer in {LIMIT_S} s")
            for connection in ready:
                rank = waiting[connection]
                try:
                    good, results[rank], found = connection.recv()
                    threads = max(threads, found)
                except EOFError:
                    good, results[rank] = False, "the process died"
                if not good:
                    self.close()
                    raise RankFailed(f"rank {rank} of {size}: {results[rank]}")
        if threads > MOST_THREADS:
            self.close()
        return [results[rank] for rank in range(size)]

    def close(self) -> None:
        for process, connection in self.ranks:
            connection.close()
            process.kill()
            process.join()
        self.ranks = []


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def serve(connection: Connection) -> None:
    """The life of one process."""
    os.environ.update(OMP_NUM_THREADS="1", TORCHDYNAMO_DISABLE="1", DS_ACCELERATOR="cpu", CUDA_VISIBLE_DEVICES="")
    sys.path[:0] = [str(HERE.parents[1]), str(HERE.parent), str(HERE)]
    warnings.simplefilter("ignore")  # the engines' own
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    while True:
        try:
            rank, size, port, module, name, args = connection.recv()
        except EOFError:
            return
        try:
            from importlib import import_module

            from ernie5.parallel.world import World

            os.environ.update(RANK=str(rank), WORLD_SIZE=str(size), LOCAL_RANK=str(rank), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
            dist.init_process_group("gloo", rank=rank, world_size=size)
            answer = (True, getattr(import_module(module), name)(World.join("cpu"), *args))
            gc.collect()  # engines are cycles that hold process groups, and every group has threads: hundreds of them after a while
            dist.barrier()
            dist.destroy_process_group()
        except BaseException:
            answer = (False, traceback.format_exc())
        connection.send((*answer, len(os.listdir("/proc/self/task")) if sys.platform == "linux" else 0))
