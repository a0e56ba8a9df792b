"""The first messages of a connection: who is there, do both have the token, which tokenizer is this.

    server: challenge (protocol, version, nonce, is a token needed) -> client: enter (kind, nonce, proof)
    -> server: hello (proof, what the tokenizer is, most bytes of a message) | refused (why) | busy

A client far away also wants proof from the server, so nobody else can take its place and answer with codes of his own. Ours.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from ernie5 import __version__
from ernie5.tokenizers.remote.auth import HOW, is_proof, nonce, proof
from ernie5.tokenizers.remote.describe import Described, described
from ernie5.tokenizers.remote.errors import Refused, Unavailable
from ernie5.tokenizers.remote.frames import FrameError, Message, Wire

PROTOCOL = 1
PATIENCE_S = 10.0            # for each message of a handshake
HELLO_BYTES = 16 * 2**20
BUSY = Message({"op": "busy"})
FULL = "it has as many clients as it takes"


@dataclass(frozen=True)
class Hello:
    """What a service says to a client that may use it. `built`: what the bits of products and sums depend on."""

    told: Described
    built: str
    payload_bytes: int


def built() -> str:
    """Version, torch and kind of processor: where all are the same, all bits are; another processor may round differently."""
    return f"ernie5 {__version__}, torch {torch.__version__}, {platform.machine()} {torch.backends.cpu.get_cpu_capability()}"


def admit(
    wire: Wire, token: bytes | None, served: Mapping[str, Described], payload_bytes: int, take_seat: Callable[[], bool]
) -> str | None:
    """The server's half: the kind that the client may now use, on the seat that was taken. None when it went away, or there is no seat;
    Refused when it was turned away.
    """
    mine = nonce()
    wire.send(Message({"op": "challenge", "protocol": PROTOCOL, "version": __version__, "nonce": mine, "token": token is not None}))
    enter = wire.receive(0, PATIENCE_S, PATIENCE_S)
    if enter is None:
        return None
    if enter.op != "enter":
        raise FrameError("the first message of a client is no entry")
    kind, theirs = enter.get("kind", str), enter.get("nonce", str)
    if len(theirs) != len(mine):
        raise FrameError("the nonce of a client has another length")
    if token is not None and not is_proof(enter.get("proof", str), token, "client", mine, theirs):
        _turn_away(wire, "the tokens differ")
    if kind not in served:
        _turn_away(wire, f"it serves {', '.join(served)} and no {kind[:20]!r}")
    if not take_seat():
        wire.send(BUSY)
        return None
    shown = proof(token, "server", mine, theirs) if token is not None else ""
    hello = {"op": "hello", "proof": shown, "built": built(), "bytes": payload_bytes, **served[kind].header}
    wire.send(Message(hello, served[kind].tensors))
    return kind


def _turn_away(wire: Wire, reason: str) -> None:
    wire.send(Message({"op": "refused", "reason": reason}))
    raise Refused(reason)


def enter(wire: Wire, kind: str, token: bytes | None, far: bool) -> Hello:
    """The client's half. Refused when this service cannot be used, Unavailable when not now. `far`: on another machine."""
    if far and token is None:
        raise Refused(f"it is on another machine, which needs a token; {HOW}")
    challenge = _answer(wire)
    if challenge.op == "busy":
        raise Unavailable(FULL)
    if challenge.op != "challenge" or challenge.get("protocol", int) != PROTOCOL:
        protocol, version = challenge.header.get("protocol"), challenge.header.get("version")
        raise Refused(f"it speaks protocol {protocol} (ernie5 {version}), and this is protocol {PROTOCOL} (ernie5 {__version__}); use one "
                      "version on both sides")
    theirs, mine, wanted = challenge.get("nonce", str), nonce(), challenge.get("token", bool)
    if wanted and token is None:
        raise Refused(f"it needs a token; {HOW}")
    if far and not wanted:
        raise Refused(f"it is on another machine and asks for no token; {HOW}")
    shown = proof(token, "client", theirs, mine) if token is not None and wanted else ""
    wire.send(Message({"op": "enter", "kind": kind, "nonce": mine, "proof": shown}))
    hello = _answer(wire)
    match hello.op:
        case "hello":
            if token is not None and wanted and not is_proof(hello.get("proof", str), token, "server", theirs, mine):
                raise Refused("it could not show that it has the token, so it is not the service that was started with it")
            return Hello(described(hello), hello.get("built", str), hello.get("bytes", int))
        case "refused":
            raise Refused(hello.get("reason", str)[:200])
        case "busy":
            raise Unavailable(FULL)
        case _:
            raise Unavailable(f"it said {hello.op[:20]!r} instead of hello")


def _answer(wire: Wire) -> Message:
    message = wire.receive(HELLO_BYTES, PATIENCE_S, PATIENCE_S)
    if message is None:
        raise Unavailable("it closed the connection")
    return message
