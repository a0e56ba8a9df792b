"""One request of a client: encode or decode one medium with one tokenizer, alone, so that codes never depend on what else is asked.

A ValueError of the tokenizer itself is a damaged medium, and goes back as one; anything else is a fault of the service. Ours.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.remote.frames import ANSWER_BYTES, TABLE_BYTES, Message
from ernie5.tokenizers.remote.media import Payload, to_tensors

log = logging.getLogger(__name__)

OPS = ("encode", "decode")
LONGEST_TEXT = 2_000  # characters of an error


def answer(tokenizer: Any, op: str, value: Payload) -> tuple[Message, float]:
    """The answer to a request, and the seconds that it took; no exception comes through."""
    start_s = time.monotonic()
    try:
        return _answer(tokenizer, op, value), time.monotonic() - start_s
    except Exception as error:
        log.exception("the request to %s failed", op)
        return _failed(f"{type(error).__name__}: {error}"), time.monotonic() - start_s


@torch.no_grad()
def _answer(tokenizer: Any, op: str, value: Payload) -> Message:
    try:
        result = (tokenizer.encode if op == "encode" else tokenizer.decode)(value)
    except ValueError as damage:
        return Message({"op": "damaged", "text": str(damage)[:LONGEST_TEXT]})
    if not isinstance(result, str | Tensor | VisionCodes):
        return _failed(f"the tokenizer gave a {type(result).__name__}")
    message = Message({"op": "codes"}, to_tensors(result))
    if message.num_bytes + TABLE_BYTES > ANSWER_BYTES:
        return _failed(f"an answer of {message.num_bytes / 2**20:.0f} MiB is larger than the {ANSWER_BYTES / 2**20:.0f} MiB allowed")
    return message


def _failed(text: str) -> Message:
    return Message({"op": "failed", "text": text[:LONGEST_TEXT]})


@dataclass
class Statistics:
    """What was done since the last line about it."""

    kinds: dict[str, list[float]] = field(default_factory=dict)  # kind -> number, seconds of work
    damaged: int = 0
    failed: int = 0
    refused: int = 0     # connections that were turned away, or sent no messages
    bytes_in: int = 0
    bytes_out: int = 0
    since_s: float = field(default_factory=time.monotonic)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def count(self, kind: str, work_s: float, op: str, bytes_in: int, bytes_out: int) -> None:
        """One answered request."""
        with self.lock:
            entry = self.kinds.setdefault(kind, [0, 0.0])
            entry[0] += 1
            entry[1] += work_s
            self.damaged += op == "damaged"
            self.failed += op == "failed"
            self.bytes_in += bytes_in
            self.bytes_out += bytes_out

    def turned_away(self) -> None:
        """One connection that came to nothing."""
        with self.lock:
            self.refused += 1

    def line(self) -> str:
        """A line for people, and a new start; empty when nothing was asked."""
        with self.lock:
            spent_s = max(time.monotonic() - self.since_s, 1e-9)
            kinds = [f"{kind} {int(n):,} media ({n / spent_s:.1f}/s, {1000 * s / n:.1f} ms of work each)"
                     for kind, (n, s) in self.kinds.items()]
            more = [f"{n} {what}" for n, what in ((self.damaged, "damaged"), (self.failed, "failed"), (self.refused, "turned away")) if n]
            moved = [f"{self.bytes_in / 2**20:.1f} MiB in, {self.bytes_out / 2**20:.1f} MiB out"] if self.kinds else []
            self.kinds, self.damaged, self.failed, self.refused, self.bytes_in, self.bytes_out = {}, 0, 0, 0, 0, 0
            self.since_s = time.monotonic()
        return "; ".join([*kinds, *more, *moved])
