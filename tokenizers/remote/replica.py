"""One replica of a service as one process sees it: its idle connections, how busy it is, and when it may be tried again.

A connection carries one request at a time, so there are as many as threads ask at once. Whoever asks hears from the service every few
seconds while it works; after `SILENCE_S` without a word it counts as dead, however long the work may take. Ours.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import time
from collections import deque

from ernie5.tokenizers.remote.address import Address, is_loopback
from ernie5.tokenizers.remote.auth import read_token
from ernie5.tokenizers.remote.errors import ServiceError, Unavailable
from ernie5.tokenizers.remote.frames import ANSWER_BYTES, Message, Wire
from ernie5.tokenizers.remote.handshake import Hello, enter

log = logging.getLogger(__name__)

CONNECT_S = 5.0
SILENCE_S = 30.0
FIRST_WAIT_S, LONGEST_WAIT_S = 0.05, 2.0


class Lost(Unavailable):
    """The connection ended after a request was sent. `heard`: the service had shown that it works on it."""

    def __init__(self, message: str, heard: bool) -> None:
        super().__init__(message)
        self.heard = heard


class Replica:
    """Connections to one address; `busy` is counted by the service object under its lock."""

    def __init__(self, address: Address, kind: str) -> None:
        self.address, self.kind = address, kind
        self.idle: deque[Wire] = deque()  # taking from and adding to it needs no lock
        self.busy, self.failures, self.not_before = 0, 0, 0.0
        self.hello: Hello | None = None
        self.error: ServiceError | None = None  # why it cannot be used

    def connect(self) -> tuple[Wire, Hello]:
        """A new connection. Unavailable when nobody answers, Refused when what answers cannot be used."""
        try:
            connection = socket.create_connection(self.address, CONNECT_S)
        except OSError as error:
            raise Unavailable(error.strerror.lower() if error.strerror else "no answer") from None
        wire = Wire(connection)
        try:
            return wire, enter(wire, self.kind, read_token(), far=not is_loopback(connection.getpeername()[0]))
        except ServiceError:
            wire.close()
            raise
        except OSError as error:
            wire.close()
            raise Unavailable(_why(error)) from None
        except ValueError as error:  # the token of this process, which is no damaged medium
            wire.close()
            raise ServiceError(str(error)) from None

    def request(self, wire: Wire, message: Message) -> Message:
        """The answer. Lost when the connection ends before it is there."""
        heard = False
        try:
            wire.send(message)
            while True:
                answer = wire.receive(ANSWER_BYTES, SILENCE_S)
                if answer is None:
                    raise Lost("it closed the connection", heard)
                if answer.op == "busy":
                    raise Unavailable("it has as much to do as it takes")
                if answer.op != "working":
                    return answer
                heard = True
        except ServiceError:
            raise
        except OSError as error:
            raise Lost(_why(error), heard) from None

    def take_idle(self) -> Wire | None:
        """A connection that nobody uses."""
        try:
            return self.idle.pop()
        except IndexError:
            return None

    def forget(self) -> None:
        """Let go of all idle connections."""
        with contextlib.suppress(IndexError):
            while True:
                self.idle.pop().close()

    def failed(self, error: ServiceError) -> None:
        """Wait longer and longer before it is tried again."""
        self.forget()
        if not self.failures:
            log.warning("tokenizer service %s (%s) cannot be used: %s; it is tried again", self.address, self.kind, error)
        self.failures, self.error = self.failures + 1, error
        self.not_before = time.monotonic() + min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(self.failures, 16))

    def worked(self) -> None:
        """It answered."""
        if self.failures:
            log.info("tokenizer service %s (%s) answers again", self.address, self.kind)
        self.failures, self.not_before, self.error = 0, 0.0, None


def _why(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it does not answer in time"
    return error.strerror.lower() if error.strerror else str(error)
