"""A service as its user sees it: one question, one answer, whatever happens to replicas and connections in between.

    least busy replica that may be tried -> connection -> request -> answer
    lost, refused, busy -> another replica, or the same one again a little later; after `patience_s` without any answer a ServiceError

Encoding is a pure function of the medium, so asking twice changes nothing. Threads share the object and have connections of their own; a
process that was forked, or got the object by pickling, opens its own. Ours.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Sequence

from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.describe import Described
from ernie5.tokenizers.remote.errors import Refused, ServiceError, ServiceFailed, Unavailable
from ernie5.tokenizers.remote.frames import TABLE_BYTES, FrameError, Message, Wire
from ernie5.tokenizers.remote.handshake import Hello, built
from ernie5.tokenizers.remote.replica import Lost, Replica

log = logging.getLogger(__name__)

LOSSES = 5        # connections that may be lost over one medium
SAY_EVERY_S = 10.0


class _Here:
    """What belongs to one process."""

    def __init__(self, addresses: Sequence[Address], kind: str) -> None:
        self.pid = os.getpid()
        self.lock = threading.Lock()
        self.replicas = [Replica(address, kind) for address in addresses]
        self.turn, self.told_s = self.pid, 0.0  # processes begin with different replicas


class Service:
    """The replicas at `addresses` that serve one kind of tokenizer. `told`: what all of them must be."""

    def __init__(self, kind: str, addresses: Sequence[Address], patience_s: float) -> None:
        self.kind, self.addresses, self.patience_s = kind, tuple(addresses), patience_s
        self._here = _Here(self.addresses, kind)
        self.told = self._first_contact()

    def __getstate__(self) -> dict:
        return {key: value for key, value in vars(self).items() if key != "_here"}

    def __setstate__(self, state: dict) -> None:
        vars(self).update(state)
        self._here = _Here(self.addresses, self.kind)

    def ask(self, message: Message) -> Message:
        """The answer of a replica. ValueError: a damaged medium. ServiceFailed: a fault of the service. ServiceError: nobody answers."""
        alive_s, losses = time.monotonic(), 0
        while True:
            here = self._mine()
            replica = self._choose(here)
            if replica is not None:
                try:
                    answer = self._try(replica, message)
                    replica.worked()
                    return self._checked(replica, answer)
                except ServiceError as error:
                    replica.failed(error)
                    if isinstance(error, Lost):
                        losses += 1
                        if losses >= LOSSES:
                            raise ServiceError(f"{losses} connections to the {self.kind} tokenizer service were lost over one medium "
                                               f"({error}); does it take the service's memory? Look into the service's own log") from None
                        if error.heard:
                            alive_s = time.monotonic()
                finally:
                    with here.lock:
                        replica.busy -= 1
            else:
                self._wait(here, alive_s)

    def close(self) -> None:
        """Let go of all idle connections of this process."""
        for replica in self._mine().replicas:
            replica.forget()

    def _mine(self) -> _Here:
        if self._here.pid != os.getpid():  # a forked process: the connections are its parent's
            for replica in self._here.replicas:
                replica.forget()
            self._here = _Here(self.addresses, self.kind)
        return self._here

    def _choose(self, here: _Here) -> Replica | None:
        """The least busy one that may be tried now, in turn."""
        now = time.monotonic()
        with here.lock:
            here.turn += 1
            order = [here.replicas[(here.turn + i) % len(here.replicas)] for i in range(len(here.replicas))]
            best = min((r for r in order if r.not_before <= now), key=lambda r: r.busy, default=None)
            if best is not None:
                best.busy += 1
            return best

    def _try(self, replica: Replica, message: Message) -> Message:
        wire = replica.take_idle()
        if wire is not None:
            try:
                return self._request(replica, wire, message)
            except Lost as error:
                if error.heard:
                    raise
                replica.forget()  # it was started anew since: all old connections are dead
        wire, hello = replica.connect()
        self._check(replica, hello)
        return self._request(replica, wire, message)

    def _request(self, replica: Replica, wire: Wire, message: Message) -> Message:
        assert replica.hello is not None
        if message.num_bytes + TABLE_BYTES > replica.hello.payload_bytes:
            wire.close()
            raise FrameError(f"a {self.kind} medium of {message.num_bytes / 2**20:.1f} MiB is larger than the service at "
                             f"{replica.address} takes ({replica.hello.payload_bytes / 2**20:g} MiB); start it with a higher --max-mib, or "
                             "lower data.limits")
        try:
            answer = replica.request(wire, message)
        except BaseException:
            wire.close()
            raise
        replica.idle.append(wire)
        return answer

    def _checked(self, replica: Replica, answer: Message) -> Message:
        match answer.op:
            case "codes":
                return answer
            case "damaged":
                raise ValueError(answer.get("text", str))
            case _:
                raise ServiceFailed(f"the {self.kind} tokenizer service at {replica.address} failed: {answer.header.get('text')}; its own "
                                    "log has the traceback")

    def _check(self, replica: Replica, hello: Hello) -> None:
        """Refused unless this is the tokenizer that the first replica had."""
        if hello.told.kind != self.kind or (hello.told.fingerprint, hello.told.sizes) != (self.told.fingerprint, self.told.sizes):
            raise Refused(f"its {hello.told.kind} tokenizer has the fingerprint {hello.told.fingerprint}, and this run began with "
                          f"{self.told.fingerprint}; serve the same tokenizer")
        if replica.hello is None and hello.built != built():
            log.warning("tokenizer service %s runs on another build (%s; here %s): its codes may differ in their last bits from those that "
                        "would be made here", replica.address, hello.built, built())
        replica.hello = hello

    def _first_contact(self) -> Described:
        """Ask every replica who it is. ServiceError when one cannot be right, or when none answers in time."""
        start_s, here = time.monotonic(), self._mine()
        while True:
            found = False
            for replica in here.replicas:
                try:
                    wire, hello = replica.connect()
                    if not found:
                        self.told, found = hello.told, True
                    self._check(replica, hello)
                except Unavailable as error:
                    replica.failed(error)
                except ServiceError as error:
                    raise ServiceError(f"tokenizer service {replica.address} ({self.kind}) is refused: {error}") from None
                else:
                    replica.worked()
                    replica.idle.append(wire)
            if found:
                return self.told
            self._wait(here, start_s)

    def _wait(self, here: _Here, alive_s: float) -> None:
        """Sleep until one may be tried again, and say so now and then. ServiceError after `patience_s` since `alive_s`."""
        now = time.monotonic()
        reasons = "; ".join(f"{replica.address}: {replica.error}" for replica in here.replicas)
        left_s = alive_s + self.patience_s - now
        if left_s <= 0:
            raise ServiceError(f"no {self.kind} tokenizer service answered for {self.patience_s:g} s ({reasons}); start it with `ernie5 "
                               f"tokenizer serve`, correct tokenizers.services.{self.kind}, or wait longer with tokenizers.service_wait_s")
        if now - here.told_s >= SAY_EVERY_S:
            here.told_s = now
            log.warning("waiting for the %s tokenizer service, for %.0f s more at most (%s)", self.kind, left_s, reasons)
        soonest = min(replica.not_before for replica in here.replicas)
        time.sleep(min(max(soonest - now, 0.001), left_s))
