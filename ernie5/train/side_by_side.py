"""Long jobs in processes of their own at the same time, each with its share of the threads.

A stop signal goes on to the children, which save and leave; a child whose parent was killed leaves too, so that two never work in one
folder. Ours.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from typing import Any

import torch

from ernie5.run.signals import StopRequest

LOOK_EVERY_S = 0.3


def side_by_side(job: Callable[..., None], calls: Sequence[tuple[Any, ...]]) -> None:
    """Run `job(*call)` for every call in a process of its own; raises what the first one that fails raises. `job` is importable by name."""
    threads = max(1, torch.get_num_threads() // len(calls))
    listens = threading.current_thread() is threading.main_thread()
    with StopRequest() if listens else contextlib.nullcontext() as stop:
        with ProcessPoolExecutor(len(calls), mp_context=multiprocessing.get_context("spawn")) as pool:
            jobs = [pool.submit(_child, os.getpid(), threads, job, call) for call in calls]
            told = False
            while (waiting := wait(jobs, timeout=LOOK_EVERY_S, return_when=FIRST_EXCEPTION).not_done):
                if stop is not None and stop.requested and not told:
                    told = True
                    for child in multiprocessing.active_children():
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(child.pid or 0, signal.SIGTERM)
                if any(done.exception() for done in set(jobs) - waiting):
                    break
            for done in jobs:
                done.result()


def _child(parent: int, threads: int, job: Callable[..., None], call: tuple[Any, ...]) -> None:
    threading.Thread(target=_leave_with, args=(parent,), daemon=True).start()
    os.environ["ERNIE5_PROGRESS"] = "lines"  # two bars cannot share a terminal
    torch.set_num_threads(threads)
    job(*call)


def _leave_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1.0)
    os._exit(1)
