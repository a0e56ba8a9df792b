"""Processes that read, decode and encode beside the training: pure functions of the draw, so order and losses cannot depend on them.

    one thread here per process there:   request (number, source, place) -> socket -> work -> bytes -> socket -> future

Whoever asked waits for the future, so results come in the order of the stream. A process that dies (out of memory, SIGKILL) is replaced
and asked again: nothing is lost or done twice; the third death over one sample ends the run with its name. A process whose trainer is
gone ends within a second. Processes are forked, as torch's own loader does it, and run one thread on the CPU. Ours.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import stat
import struct
import time
import traceback
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue

import torch

from ernie5.data_pipelines.mixture import Draw

log = logging.getLogger(__name__)
Work = Callable[[Draw], bytes]
DEATHS = 3           # over one sample, before the run ends
PATIENCE_S = 1.0     # how long a process may take to end by itself
DONE, DAMAGED, UNREACHABLE, FAILED = b"d", b"v", b"u", b"f"


class Closed(Exception):
    """The pool was closed while this work was under way."""


class Workers:
    """`num` processes that run `work`. ValueError (a damaged sample) and ConnectionError of `work` come back as such, anything else as
    RuntimeError with its traceback.
    """

    def __init__(self, work: Work, num: int) -> None:
        if not hasattr(os, "fork"):
            raise ValueError(f"data.workers = {num} needs a system whose processes can fork; use data.workers = 0")
        self.children = [Child(work) for _ in range(num)]
        self.idle: SimpleQueue[Child] = SimpleQueue()
        for child in self.children:
            self.idle.put(child)
        self.threads = ThreadPoolExecutor(num, thread_name_prefix="worker")

    def submit(self, draw: Draw) -> Future[bytes]:
        """Begin the work on one sample, as soon as a process is free; requests are begun in order."""
        return self.threads.submit(self._ask, draw)

    def _ask(self, draw: Draw) -> bytes:
        child = self.idle.get()
        try:
            return child.ask(draw)
        finally:
            self.idle.put(child)

    def close(self) -> None:
        """End all processes and threads, whatever they are doing, in about a second."""
        for child in self.children:
            child.hang_up()
        self.threads.shutdown(wait=True, cancel_futures=True)
        deadline = time.monotonic() + PATIENCE_S
        for child in self.children:
            child.reap(deadline)


class Child:
    """One process and our end of its socket."""

    def __init__(self, work: Work) -> None:
        self.work, self.closed = work, False
        self._fork()

    def _fork(self) -> None:
        self.socket, theirs = socket.socketpair()
        trainer = os.getpid()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*fork.*", category=DeprecationWarning)  # the child only runs `work`
            self.pid = os.fork()
        if self.pid == 0:
            try:
                _let_go(theirs.fileno())
                serve(theirs, self.work, trainer)
            finally:
                os._exit(0)
        theirs.close()

    def ask(self, draw: Draw) -> bytes:
        """The result for one sample. ValueError: it is damaged; WorkerDied: it kills its process every time."""
        number, source, place = draw
        for death in range(1, DEATHS + 1):
            if self.pid == 0:
                self._fork()
            try:
                send(self.socket, source.encode() + struct.pack("<QQ", number, place))
                answer = receive(self.socket)
            except OSError:
                answer = None
            if self.closed:
                raise Closed
            if answer is not None:
                kind, result = answer[:1], answer[1:]
                if kind == DONE:
                    return result
                if kind == DAMAGED:
                    raise ValueError(result.decode())
                if kind == UNREACHABLE:
                    raise ConnectionError(result.decode())
                raise RuntimeError(f"a data worker failed on {source}/{place}:\n{result.decode()}")
            how = self._how_it_died()
            if death < DEATHS:
                log.warning("a data worker died (%s) at %s/%d; another one takes its place and does it again", how, source, place)
        raise WorkerDied(f"{DEATHS} data workers in a row died over sample {source}/{place} ({how}); if memory ran out, use fewer "
                         "data.workers or tighter data.limits, else look at that sample with data.workers = 0")

    def _how_it_died(self) -> str:
        self.socket.close()
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"

    def hang_up(self) -> None:
        """Tell the process that no more will come, and wake up whoever waits for it."""
        self.closed = True
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is gone already

    def reap(self, deadline: float) -> None:
        """Wait for its end until `deadline` (monotonic seconds), then enforce it."""
        self.socket.close()
        while self.pid and os.waitpid(self.pid, os.WNOHANG)[0] == 0:
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                return
            time.sleep(0.002)


class WorkerDied(ValueError):
    """A sample that kills every process that looks at it."""


def serve(connection: socket.socket, work: Work, trainer: int) -> None:
    """The life of a process: answer requests until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the trainer decides
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    torch.set_num_threads(1)
    while True:
        while not select.select([connection], [], [], 1.0)[0]:
            if os.getppid() != trainer:
                return
        request = receive(connection)
        if request is None:
            return
        source, (number, place) = request[:-16].decode(), struct.unpack("<QQ", request[-16:])
        try:
            answer = DONE + work(Draw(number, source, place))
        except ValueError as damage:
            answer = DAMAGED + str(damage).encode()
        except ConnectionError as error:
            answer = UNREACHABLE + str(error).encode()
        except Exception:
            answer = FAILED + traceback.format_exc().encode()
        send(connection, answer)


def _let_go(kept: int) -> None:
    """Point the sockets and pipes of the trainer at nothing: its peers must notice when it dies, and nobody else reads its pipes."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for name in os.listdir("/dev/fd"):
        number = int(name)
        try:
            mode = os.fstat(number).st_mode
        except OSError:
            continue
        if number > 2 and number not in (kept, nothing) and (stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode)):
            os.dup2(nothing, number)


def send(connection: socket.socket, data: bytes) -> None:
    """One message: its length, then its bytes."""
    connection.sendall(struct.pack("<Q", len(data)))
    connection.sendall(data)


def receive(connection: socket.socket) -> bytes | None:
    """The next message, None when the other side is gone."""
    head = _exactly(connection, 8)
    return None if head is None else _exactly(connection, struct.unpack("<Q", head)[0])


def _exactly(connection: socket.socket, size: int) -> bytes | None:
    data = bytearray(size)
    view, at = memoryview(data), 0
    while at < size:
        got = connection.recv_into(view[at:])
        if got == 0:
            return None
        at += got
    return bytes(data)
