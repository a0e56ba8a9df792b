"""One message on a connection: a small JSON header and a few tensors. Nothing in it is code (no pickle).

    magic 4 | header bytes, u32 | payload bytes, u32 | header: a JSON object | payload: safetensors

Every size is checked before memory is taken for it: header, payload, table of tensors, their number, types and sides. Once its first byte
is there, a message must come whole in `frame_s` seconds, so a half-open or very slow connection holds nothing for long. Ours.
"""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import time
import weakref
from dataclasses import dataclass, field
from typing import Any

import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import save
from torch import Tensor

MAGIC = b"E5tk"
HEAD = struct.Struct(">4sII")
HEADER_BYTES = 2**16
PAYLOAD_BYTES = 256 * 2**20   # of a request, by default
ANSWER_BYTES = 2**30          # of an answer: codes in float32 can be larger than pixels
TABLE_BYTES = 2**12           # safetensors' own header
NUM_TENSORS = 8
SMALL_BYTES = 2**16           # sent in one piece with its header
NUM_SIDES, LONGEST_SIDE = 6, 2**31
DTYPES = {"U8": torch.uint8, "I8": torch.int8, "I16": torch.int16, "I32": torch.int32, "I64": torch.int64,
          "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class FrameError(ConnectionError):
    """What came is no message of this protocol, or larger than is taken."""


@dataclass(frozen=True)
class Message:
    """`header["op"]` says what it is."""

    header: dict[str, Any]
    tensors: dict[str, Tensor] = field(default_factory=dict)

    def get(self, key: str, kind: type) -> Any:
        """A value of the header. FrameError unless it is there and of this type."""
        value = self.header.get(key)
        if type(value) is not kind:
            raise FrameError(f"{key!r} of a message is no {kind.__name__}")
        return value

    @property
    def op(self) -> str:
        return self.get("op", str)

    @property
    def num_bytes(self) -> int:
        """Of the tensors."""
        return sum(t.numel() * t.element_size() for t in self.tensors.values())


def frame_s(num_bytes: int) -> float:
    """How long a message of this size may be under way: 30 s, and a second for every MiB."""
    return 30 + num_bytes / 2**20


class Wire:
    """A connected socket that carries messages. Used by one thread at a time; `close` by any."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        weakref.finalize(self, connection.close).atexit = False  # a wire that nobody holds any more
        with contextlib.suppress(OSError):  # a socket pair has no such options
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)  # a machine that is gone is noticed within two minutes
            for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 10), ("TCP_KEEPCNT", 6)):
                if hasattr(socket, name):
                    connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)

    def send(self, message: Message) -> int:
        """Send a message and return its bytes. OSError when the other side is gone or takes too long."""
        header = json.dumps(message.header).encode()
        payload = save({name: tensor.detach().cpu().contiguous() for name, tensor in message.tensors.items()}) if message.tensors else b""
        assert len(header) <= HEADER_BYTES and len(payload) < 2**32, "whoever makes a message keeps it small"
        self.socket.settimeout(frame_s(len(payload)))
        head = HEAD.pack(MAGIC, len(header), len(payload)) + header
        for part in (head + payload,) if len(payload) < SMALL_BYTES else (head, payload):
            self.socket.sendall(part)
        return HEAD.size + len(header) + len(payload)

    def receive(self, payload_bytes: int, first_s: float | None, whole_s: float | None = None) -> Message | None:
        """The next message; None when the other side has closed. `first_s`: how long to wait for its first byte (None: for ever)."""
        sizes = self.head(payload_bytes, first_s, whole_s)
        return None if sizes is None else self.body(sizes, whole_s)

    def head(self, payload_bytes: int, first_s: float | None, whole_s: float | None = None) -> tuple[int, int] | None:
        """Bytes of header and payload of the next message. FrameError where they are more than is taken."""
        self.socket.settimeout(first_s)
        head = self.socket.recv(HEAD.size)
        if not head:
            return None
        if len(head) < HEAD.size:
            head += self._exactly(HEAD.size - len(head), time.monotonic() + (whole_s or frame_s(0)))
        magic, header, payload = HEAD.unpack(head)
        if magic != MAGIC:
            raise FrameError("the other side does not speak the protocol of ernie5 tokenizer services")
        if header > HEADER_BYTES or payload > payload_bytes:
            raise FrameError(f"a message with {header} + {payload} bytes is larger than the {HEADER_BYTES} + {payload_bytes} allowed")
        return header, payload

    def body(self, sizes: tuple[int, int], whole_s: float | None = None) -> Message:
        """The message whose head was read."""
        data = self._exactly(sum(sizes), time.monotonic() + (whole_s or frame_s(sum(sizes))))
        header = read_header(data[: sizes[0]])
        return Message(header, read_tensors(bytes(memoryview(data)[sizes[0] :])) if sizes[1] else {})

    def skip(self, sizes: tuple[int, int]) -> None:
        """Read the rest of a message whose head was read, and keep nothing of it."""
        left, until = sum(sizes), time.monotonic() + frame_s(sum(sizes))
        while left:
            left -= len(self._exactly(min(left, 2**16), until))

    def _exactly(self, size: int, until: float) -> bytearray:
        data = bytearray(size)
        view, at = memoryview(data), 0
        while at < size:
            left_s = until - time.monotonic()
            if left_s <= 0:
                raise TimeoutError("a message did not come whole in time")
            self.socket.settimeout(left_s)
            got = self.socket.recv_into(view[at:])
            if got == 0:
                raise FrameError("the connection ended inside a message")
            at += got
        return data

    def close(self) -> None:
        """Only lets go of it: a copy of the connection in another process stays as it is."""
        self.socket.close()


def read_header(data: bytes | bytearray) -> dict[str, Any]:
    """The JSON object. FrameError for anything else."""
    try:
        header = json.loads(data)
    except (ValueError, RecursionError):
        header = None
    if not isinstance(header, dict):
        raise FrameError("the header of a message is no JSON object")
    return header


def read_tensors(data: bytes) -> dict[str, Tensor]:
    """The tensors of a payload. FrameError for what is no safetensors of a few plain tensors."""
    if len(data) < 8 or struct.unpack_from("<Q", data)[0] > TABLE_BYTES:
        raise FrameError(f"the table of tensors of a message is missing or larger than {TABLE_BYTES} bytes")
    try:
        entries = deserialize(data)  # holds shapes, types and lengths against each other before it takes memory
    except SafetensorError as error:
        raise FrameError(f"the tensors of a message cannot be read: {error}") from None
    if len(entries) > NUM_TENSORS:
        raise FrameError(f"{len(entries)} tensors in a message are more than {NUM_TENSORS}")
    tensors = {}
    for name, entry in entries:
        shape, dtype = entry["shape"], DTYPES.get(entry["dtype"])
        if dtype is None or len(shape) > NUM_SIDES or any(side >= LONGEST_SIDE for side in shape):
            raise FrameError(f"tensor {name[:40]!r} of a message has a type or shape that is not taken: {entry['dtype']} {shape}")
        flat = torch.frombuffer(entry["data"], dtype=dtype) if entry["data"] else torch.empty(0, dtype=dtype)
        tensors[name] = flat.reshape(shape).clone()  # memory as torch aligns it: some products round by alignment
    return tensors
