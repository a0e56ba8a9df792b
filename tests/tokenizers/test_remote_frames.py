"""Messages: whatever bytes come, a reader gives a whole message or a FrameError, in bounded time and memory."""

import json
import socket
import struct
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save

from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.remote import frames
from ernie5.tokenizers.remote.frames import HEAD, MAGIC, FrameError, Message, Wire, read_tensors
from ernie5.tokenizers.remote.media import from_tensors, to_tensors

LIMIT = 2**16


def read(data: bytes) -> Message | None:
    """What a reader makes of these bytes, followed by the end of the connection."""
    one, other = socket.socketpair()
    wire = Wire(other)
    writer = threading.Thread(target=lambda: (one.sendall(data), one.close()))
    writer.start()
    try:
        return wire.receive(LIMIT, first_s=5.0, whole_s=5.0)
    finally:
        wire.close()
        try:
            writer.join()
        finally:
            one.close()


def written(message: Message) -> bytes:
    one, other = socket.socketpair()
    size = Wire(one).send(message)
    data = b""
    while len(data) < size:
        data += other.recv(2**16)
    other.close()
    return data


GOOD = written(Message({"op": "encode"}, {"tensor": torch.arange(6).reshape(2, 3)}))


@pytest.mark.parametrize("dtype", frames.DTYPES.values(), ids=str)
def test_tensors_come_back_as_they_were(dtype) -> None:
    sent = {"a": torch.arange(6).reshape(2, 3).to(dtype), "b": torch.zeros(0, 3, dtype=dtype), "c": torch.tensor(3).to(dtype)}
    got = read(written(Message({"op": "x", "n": 1}, sent)))
    assert got is not None and got.header == {"op": "x", "n": 1} and got.tensors.keys() == sent.keys()
    assert all(torch.equal(got.tensors[k], t) and got.tensors[k].dtype == dtype for k, t in sent.items())


@given(st.text(st.characters(codec=None), max_size=20))
def test_any_text_travels(text) -> None:
    assert from_tensors(read_tensors(save(to_tensors(text)))) == text


def test_codes_travel() -> None:
    codes = VisionCodes(torch.randn(1, 4, 2, 2), torch.randn(1, 8, 2, 2))
    got = from_tensors(read_tensors(save(to_tensors(codes))))
    assert isinstance(got, VisionCodes) and torch.equal(got.latent, codes.latent) and torch.equal(got.features, codes.features)


@given(st.binary(max_size=200))
def test_garbage_is_refused(data) -> None:
    for start in (b"", MAGIC, HEAD.pack(MAGIC, 20, 100)):
        try:
            got = read(start + data)
        except FrameError:
            continue
        assert got is None and not (start + data)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(1, len(GOOD)))
def test_a_damaged_message_is_whole_or_refused(changes, end) -> None:
    data = bytearray(GOOD)
    for at, value in changes:
        data[at] = value
    try:
        got = read(bytes(data[:end]))
    except FrameError:
        return
    assert isinstance(got, Message) and all(tensor.numel() <= 48 for tensor in got.tensors.values())


@pytest.mark.parametrize("head", [HEAD.pack(MAGIC, frames.HEADER_BYTES + 1, 0), HEAD.pack(MAGIC, 2, LIMIT + 1), HEAD.pack(b"GET ", 2, 2)])
def test_too_large_is_refused_before_anything_is_read(head) -> None:
    with pytest.raises(FrameError):
        read(head)


@pytest.mark.parametrize("header", [b"[]", b"{", b"\xff\xfe", b"[" * 60_000, b"1" * 5_000])
def test_headers_are_objects(header) -> None:
    with pytest.raises(FrameError, match="no JSON object"):
        read(HEAD.pack(MAGIC, len(header), 0) + header)


def table(**entries: object) -> bytes:
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text


@pytest.mark.parametrize("payload", [
    b"", struct.pack("<Q", 2**60), table(a={"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 4]}) + bytes(4),
    table(a={"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}) + bytes(4),
    table(a={"dtype": "F32", "shape": [0, 2**40], "data_offsets": [0, 0]}),
    table(a={"dtype": "BOOL", "shape": [1], "data_offsets": [0, 1]}) + b"\7",
    table(a={"dtype": "U8", "shape": [1] * 9, "data_offsets": [0, 1]}) + b"\0", save({str(i): torch.zeros(1) for i in range(9)}),
    table(a={"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}, b={"dtype": "U8", "shape": [4], "data_offsets": [0, 4]}) + bytes(4),
], ids=["nothing", "long table", "larger than memory", "negative", "no elements but sides", "type", "sides", "number", "overlap"])
def test_tensors_are_checked(payload) -> None:
    with pytest.raises(FrameError):
        read_tensors(payload)


def test_a_message_that_stops_half_way_is_given_up() -> None:
    one, other = socket.socketpair()
    wire = Wire(other)
    one.sendall(GOOD[:-1])
    with pytest.raises(TimeoutError):
        wire.receive(LIMIT, first_s=1.0, whole_s=0.05)
    one.close()
