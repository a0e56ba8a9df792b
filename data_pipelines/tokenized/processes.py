"""Numbered pieces of work over some processes of this machine, each with its own tokenizers; what is done is told as it is done.

    parent -> child   number of the next piece, or END           child -> parent   WANT · how many samples, bad ones below 0 · a message

With one process the work is done here. Every process uses one thread: codes must be those of the loader, which encodes with one.
Ours: all of it.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection, wait

import torch

from ernie5.data_pipelines.tokenized.write import Job, Tell, Work

WANT, END = 0, -1


def write_shards(job: Job, work: Work, numbers: Iterable[int], processes: int, tell: Tell) -> None:
    """Write these shards. ValueError with the reason when a process cannot go on; nothing half done counts."""
    todo = iter(numbers)
    if processes == 1:
        with one_thread():
            for number in todo:
                work.write(number, tell)
        return
    context = multiprocessing.get_context("spawn")  # a fresh interpreter: threads of torch do not survive a fork
    pairs = [context.Pipe() for _ in range(processes)]
    children = {}
    for ours, theirs in pairs:
        child = context.Process(target=_serve, args=(job, theirs), daemon=True)
        child.start()
        theirs.close()
        children[ours] = child
    try:
        while children:
            for ready in wait(list(children)):
                assert isinstance(ready, Connection)
                try:
                    said = ready.recv()
                except EOFError:
                    child = children.pop(ready)
                    child.join()
                    if child.exitcode:
                        raise ValueError(f"a process that tokenized died ({_how(child.exitcode)}; is there enough memory?); the same "
                                         "command goes on, with fewer --processes if need be") from None
                    continue
                if isinstance(said, str):
                    raise ValueError(said)
                if said == WANT:
                    ready.send(next(todo, END))
                else:
                    tell(said)
    finally:
        for child in children.values():
            child.terminate()
            child.join()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch uses one thread until the block ends."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _serve(job: Job, connection: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides
    torch.set_num_threads(1)
    try:
        work = job.open()
        while (number := _next(connection)) != END:
            work.write(number, connection.send)
    except (ValueError, OSError) as error:
        connection.send(str(error))


def _next(connection: Connection) -> int:
    connection.send(WANT)
    return int(connection.recv())


def _how(code: int) -> str:
    return signal.Signals(-code).name if code < 0 else f"exit code {code}"
