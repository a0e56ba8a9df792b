"""The service: one thread for every client's connection, a pool of threads that work, one torch thread each.

    accept -> handshake -> (request -> pool -> answer)*        while it works, the client hears so every few seconds

Bounded: clients, half-open connections, bytes of a message, bytes of all messages that are held at once, and requests that wait (one for
each client). A media batch is never made of several requests. `close` answers what is under way, and lets all others find another
replica. Ours.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any

import torch

from ernie5.tokenizers.remote.address import Address, is_loopback
from ernie5.tokenizers.remote.auth import HOW
from ernie5.tokenizers.remote.describe import Described, describe
from ernie5.tokenizers.remote.errors import Refused
from ernie5.tokenizers.remote.frames import PAYLOAD_BYTES, FrameError, Message, Wire, frame_s
from ernie5.tokenizers.remote.handshake import BUSY, admit
from ernie5.tokenizers.remote.media import Payload, from_tensors
from ernie5.tokenizers.remote.room import Room, Seat
from ernie5.tokenizers.remote.work import OPS, Statistics, answer

log = logging.getLogger(__name__)

BEAT_S = 5.0
WORKING = Message({"op": "working"})


@dataclass(frozen=True)
class ServerConfig:
    """`threads` work, each on one medium. `half_open`: connections that have not shown yet who they are. `payload_bytes` of a message;
    four times that are held at once at most.
    """

    threads: int = 1
    clients: int = 256
    half_open: int = 32
    payload_bytes: int = PAYLOAD_BYTES

    def __post_init__(self) -> None:
        for name in ("threads", "clients", "half_open"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 2**13 <= self.payload_bytes < 2**32:
            raise ValueError(f"messages of {self.payload_bytes} bytes are not possible; use 1 to 4095 MiB")


class Server:
    """Serves `tokenizers` by kind at `address` (port 0: any that is free) from the moment it is made until `close`."""

    def __init__(self, tokenizers: Mapping[str, Any], address: Address, token: bytes | None, config: ServerConfig) -> None:
        self.tokenizers, self.token, self.config = dict(tokenizers), token, config
        self.served: dict[str, Described] = {kind: describe(kind, tokenizer) for kind, tokenizer in self.tokenizers.items()}
        self.listener = _listen(address, token)
        self.address = Address(address.host, self.listener.getsockname()[1])
        self.statistics = Statistics()
        self.room = Room(4 * config.payload_bytes)
        self.half_open = threading.BoundedSemaphore(config.half_open)
        self.seats = threading.BoundedSemaphore(config.clients)
        self.lock = threading.Lock()
        self.clients: dict[Wire, threading.Thread] = {}
        self.stopping, self.complained_s = False, 0.0
        self.pool = ThreadPoolExecutor(config.threads, "encode", initializer=torch.set_num_threads, initargs=(1,))
        self.acceptor = threading.Thread(target=self._accept, name="accept", daemon=True)
        self.acceptor.start()

    @property
    def num_clients(self) -> int:
        """Connections that are open."""
        return len(self.clients)

    def close(self, patience_s: float = 10.0) -> None:
        """Take no more requests, answer those under way, end all connections."""
        self.stopping = True
        self.acceptor.join()
        self.listener.close()
        with self.lock:
            clients = dict(self.clients)
        for wire in clients:
            with contextlib.suppress(OSError):
                wire.socket.shutdown(socket.SHUT_RD)  # wakes up who waits for a request, and lets answers out
        until = time.monotonic() + patience_s
        for thread in clients.values():
            thread.join(max(0.0, until - time.monotonic()))
        self.pool.shutdown(wait=False, cancel_futures=True)

    def _accept(self) -> None:
        self.listener.settimeout(0.2)
        while not self.stopping:
            try:
                connection, peer = self.listener.accept()
            except TimeoutError:
                continue
            except OSError as error:  # no file descriptor left, or the client has gone already
                log.warning("a connection could not be accepted: %s", error.strerror)
                time.sleep(0.2)
                continue
            wire = Wire(connection)
            if not self.half_open.acquire(blocking=False):
                self.statistics.turned_away()
                with contextlib.suppress(OSError):
                    wire.send(BUSY)
                wire.close()
                continue
            thread = threading.Thread(target=self._serve, args=(wire, peer[0]), name=f"client {peer[0]}", daemon=True)
            try:
                with self.lock:
                    self.clients[wire] = thread
                    thread.start()
            except RuntimeError as error:  # no threads left
                log.warning("a connection could not be accepted: %s", error)
                self.clients.pop(wire)
                self.half_open.release()
                wire.close()

    def _serve(self, wire: Wire, peer: str) -> None:
        """The life of a connection."""
        seat = Seat(self.seats)
        try:
            kind = self._greet(wire, seat)
            while kind is not None and not self.stopping:
                sizes = wire.head(self.config.payload_bytes, first_s=None)
                if sizes is None or not self._one(wire, kind, sizes):
                    break
        except (FrameError, Refused) as error:
            self.statistics.turned_away()
            self._complain(peer, error)
        except OSError as error:
            log.debug("the connection of %s ended: %s", peer, error)
        finally:
            seat.leave()
            with self.lock:
                self.clients.pop(wire, None)
            wire.close()

    def _complain(self, peer: str, error: Exception) -> None:
        """Not more often than every few seconds, whoever knocks; the statistics count them all."""
        now = time.monotonic()
        if now - self.complained_s >= BEAT_S:
            self.complained_s = now
            log.warning("the connection of %s is closed: %s", peer, error)

    def _greet(self, wire: Wire, seat: Seat) -> str | None:
        try:
            return admit(wire, self.token, self.served, self.config.payload_bytes, seat.take)
        finally:
            self.half_open.release()

    def _one(self, wire: Wire, kind: str, sizes: tuple[int, int]) -> bool:
        """Read the message, work, answer; False when there is no answer any more."""
        if not self.room.take(sum(sizes), frame_s(0) / 2):
            wire.skip(sizes)
            wire.send(BUSY)
            return True
        try:
            message = wire.body(sizes)
            if message.op not in OPS:
                raise FrameError(f"it asked for {message.op[:20]!r}")
            worked = self._worked(wire, self.tokenizers[kind], message.op, from_tensors(message.tensors))
            if worked is None:
                return False
            result, work_s = worked
            self.statistics.count(kind, work_s, result.op, sum(sizes), result.num_bytes)
            wire.send(result)
            return True
        finally:
            self.room.give(sum(sizes))

    def _worked(self, wire: Wire, tokenizer: Any, op: str, value: Payload) -> tuple[Message, float] | None:
        try:
            future = self.pool.submit(answer, tokenizer, op, value)
        except RuntimeError:  # the service is being stopped
            return None
        try:
            while not wait([future], BEAT_S).done and not future.cancelled():
                wire.send(WORKING)
        except OSError:
            future.cancel()  # nobody waits for it any more
            raise
        return None if future.cancelled() else future.result()


def _listen(address: Address, token: bytes | None) -> socket.socket:
    """ValueError for a place that needs a token, or cannot be had."""
    try:
        found = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError:
        raise ValueError(f"--host {address.host} is no address of this machine; use 127.0.0.1") from None
    family, where = found[0][0], found[0][4]
    if token is None and not all(is_loopback(str(entry[4][0])) for entry in found):
        raise ValueError(f"--host {address.host} can be reached from other machines, which needs a token; {HOW}, or use --host 127.0.0.1")
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # so that a killed service can be started again at once
        listener.bind(where)
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ValueError(f"{address} cannot be used: {(error.strerror or str(error)).lower()}; choose another --host or --port") from None
    return listener

