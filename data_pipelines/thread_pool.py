"""Threads beside the training whose torch operations use one core each. Ours."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import torch


def single_threaded_pool(num_workers: int) -> ThreadPoolExecutor:
    """Worker threads whose torch operations use one core each.

    A second team of OpenMP threads in a worker would halve the speed of the main thread: libgomp stops spinning once there are more
    threads than cores, even idle ones (measured: 190 against 400 ms a step on two cores).
    """
    threads = torch.get_num_threads()
    ready = Barrier(num_workers + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.zeros(2**17).exp_()  # a thread reads the global setting at its first parallel operation, and keeps it
        ready.wait()

    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="loader")
    for _ in range(num_workers):
        pool.submit(start)
    ready.wait()
    torch.set_num_threads(threads)  # some libraries have only one setting for all threads
    return pool
