"""Services are shut to strangers: tokens, other machines, garbage, silence, and more clients or bytes than they take."""


import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st
from remote_world import TOKEN, Odd, knock, serving, sound, wait_until

from ernie5.tokenizers.remote import handshake, server
from ernie5.tokenizers.remote.address import Address, is_loopback
from ernie5.tokenizers.remote.auth import ENV, ENV_FILE, is_proof, proof, read_token
from ernie5.tokenizers.remote.describe import describe
from ernie5.tokenizers.remote.errors import Refused, ServiceError
from ernie5.tokenizers.remote.frames import HEAD, MAGIC, FrameError, Message, Wire
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.tokenizers.remote.tokenizers import open_remote


def test_tokens(monkeypatch, tmp_path) -> None:
    sent: list[str] = []
    send = Wire.send
    monkeypatch.setattr(Wire, "send", lambda wire, message: sent.append(str(message.header)) or send(wire, message))
    with serving({"audio": Odd()}, token=TOKEN) as service:
        with pytest.raises(ServiceError, match="it needs a token; set ERNIE5_SERVICE_TOKEN"):
            open_remote("audio", [service.address], 5)
        monkeypatch.setenv(ENV, "another token, long enough")
        with pytest.raises(ServiceError, match="the tokens differ"):
            open_remote("audio", [service.address], 5)
        monkeypatch.delenv(ENV)
        (tmp_path / "token").write_bytes(TOKEN + b"\n")
        monkeypatch.setenv(ENV_FILE, str(tmp_path / "token"))
        assert open_remote("audio", [service.address], 5).encode(sound(3)).item() == 3
    with serving({"audio": Odd()}, token=b"not the right token") as service:  # a false server lets everybody in
        monkeypatch.delenv(ENV_FILE)
        monkeypatch.setenv(ENV, TOKEN.decode())
        monkeypatch.setattr(handshake, "is_proof", lambda shown, token, who, *rest: who == "client" or is_proof(shown, token, who, *rest))
        with pytest.raises(ServiceError, match="could not show that it has the token"):
            open_remote("audio", [service.address], 5)
    assert len(sent) >= 9 and TOKEN.decode() not in "".join(sent)


TEXTS = st.text(st.characters(codec=None), max_size=70)
SCALARS = st.one_of(st.none(), st.integers(), st.floats(), TEXTS, st.lists(st.integers(), max_size=2))


@given(st.fixed_dictionaries({}, optional={key: SCALARS for key in ("op", "kind", "nonce", "proof")}), st.booleans())
def test_no_entry_but_the_right_one(header, enter) -> None:
    here, there = socket.socketpair()
    theirs, mine = Wire(here), Wire(there)
    theirs.send(Message(header | ({"op": "enter", "nonce": "0" * 64} if enter else {})))
    with pytest.raises((FrameError, Refused)):
        handshake.admit(mine, TOKEN, {"audio": describe("audio", Odd())}, 2**16, take_seat=pytest.fail)
    theirs.close()
    mine.close()


def test_what_is_not_this_machine_needs_a_token(monkeypatch) -> None:
    with pytest.raises(ValueError, match="--host 0.0.0.0 can be reached from other machines, which needs a token"):
        Server({"audio": Odd()}, Address("0.0.0.0", 0), None, ServerConfig())
    monkeypatch.setattr("ernie5.tokenizers.remote.replica.is_loopback", lambda _: False)  # as if it were far away
    with serving({"audio": Odd()}) as service:
        with pytest.raises(ServiceError, match="on another machine, which needs a token"):
            open_remote("audio", [service.address], 5)
        monkeypatch.setenv(ENV, TOKEN.decode())
        with pytest.raises(ServiceError, match="on another machine and asks for no token"):
            open_remote("audio", [service.address], 5)
    with serving({"audio": Odd()}, Address("0.0.0.0", 0), TOKEN) as service:
        assert open_remote("audio", [Address("127.0.0.1", service.address.port)], 5).encode(sound(3)).item() == 3


def test_tokens_are_read_with_care(tmp_path) -> None:
    assert read_token({}) is None and read_token({ENV: TOKEN.decode()}) == TOKEN
    for environment in ({ENV: "short"}, {ENV: "a" * 20, ENV_FILE: "x"}, {ENV_FILE: str(tmp_path / "none")}):
        with pytest.raises(ValueError) as error:
            read_token(environment)
        assert "a" * 20 not in str(error.value)
    shown = proof(TOKEN, "client", "1", "2")
    assert is_proof(shown, TOKEN, "client", "1", "2") and not is_proof(shown, TOKEN, "server", "1", "2")
    assert not is_proof(shown, TOKEN, "client", "1", "3") and not is_proof("\ud800é", TOKEN, "client", "1", "2")


@pytest.mark.parametrize(("number", "local"), [
    ("127.0.0.1", True), ("127.9.9.9", True), ("::1", True), ("::ffff:127.0.0.1", True), ("0.0.0.0", False), ("::", False),
    ("10.0.0.1", False), ("::ffff:10.0.0.1", False), ("x", False),
])
def test_loopback(number, local) -> None:
    assert is_loopback(number) is local


GARBAGE = [b"GET / HTTP/1.1\r\n\r\n", HEAD.pack(MAGIC, 2**16, 2**31), HEAD.pack(MAGIC, 2, 0) + b"{}", HEAD.pack(MAGIC, 2, 0) + b"[]",
           b"\0" * 5000, b"E", HEAD.pack(MAGIC, 2, 100) + b"{}" + bytes(100)]


def test_strangers_disturb_nobody(monkeypatch) -> None:
    monkeypatch.setattr(handshake, "PATIENCE_S", 0.3)
    with serving({"audio": Odd()}, config=ServerConfig(half_open=3, clients=2, payload_bytes=2**16)) as service:
        audio = open_remote("audio", [service.address], 10)
        for data in GARBAGE:
            with knock(service) as stranger:
                stranger.sendall(data)
            assert audio.encode(sound(3)).item() == 3
        silent = [knock(service) for _ in range(8)]  # more than may be half open
        assert audio.encode(sound(3)).item() == 3
        wait_until(lambda: service.num_clients == 1)
        slow = knock(service)
        with pytest.raises(OSError):  # a byte now and then does not keep it open
            for byte in HEAD.pack(MAGIC, 1000, 0) + b" " * 1000:
                slow.send(bytes([byte]))
                time.sleep(0.02)
        for connection in (*silent, slow):
            connection.close()
        wire = audio.service._mine().replicas[0].take_idle()  # garbage of somebody who was let in
        assert wire is not None
        wire.send(Message({"op": "format the disk"}))
        assert wire.receive(2**16, 5) is None
        wire.close()
        assert audio.encode(sound(3)).item() == 3
        assert " turned away" in service.statistics.line()


def test_one_client_too_many_waits_for_its_turn() -> None:
    with serving({"audio": Odd()}, config=ServerConfig(clients=1)) as service:
        audio = open_remote("audio", [service.address], 5)
        with pytest.raises(ServiceError, match="it has as many clients as it takes"):
            open_remote("audio", [service.address], 0.2)
        with ThreadPoolExecutor(1) as pool:
            late = pool.submit(open_remote, "audio", [service.address], 10)
            audio.service.close()
            assert late.result().encode(sound(3)).item() == 3


def test_messages_that_do_not_fit_wait_or_are_turned_down(monkeypatch) -> None:
    monkeypatch.setattr(server, "frame_s", lambda _: 0.2)
    with serving({"audio": Odd()}, config=ServerConfig(payload_bytes=2**14)) as service:
        audio = open_remote("audio", [service.address], 0.3)
        assert service.room.take(4 * 2**14, 0)
        with pytest.raises(ServiceError, match="it has as much to do as it takes"):
            audio.encode(sound(3))
        service.room.give(4 * 2**14)
        assert audio.encode(sound(3)).item() == 3
