"""A served tokenizer is the tokenizer: same codes, same errors; services may die at any time."""

import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.reduction import ForkingPickler

import pytest
import torch
from remote_world import ANY, Odd, audio_codec, cut, serving, sound, text_tokenizer, vision_tokenizer, wait_until, warned

from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.workers import Workers
from ernie5.tokenizers.remote import client, handshake, server
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.errors import ServiceError, ServiceFailed
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.tokenizers.remote.tokenizers import RemoteAudio, RemoteText, RemoteVision, open_remote


def test_codes_sizes_and_errors_are_those_of_the_tokenizer(one_thread) -> None:
    text, vision, audio = text_tokenizer(), vision_tokenizer(), audio_codec()
    with serving({"text": text, "vision": vision, "audio": audio}) as service:
        far_text, far_vision, far_audio = (open_remote(kind, [service.address], 5) for kind in ("text", "vision", "audio"))
        assert isinstance(far_text, RemoteText) and isinstance(far_vision, RemoteVision) and isinstance(far_audio, RemoteAudio)
        for near, far, sizes in ((text, far_text, ["vocab_size"]), (vision, far_vision, ["stride", "temporal_stride", "feature_dim"]),
                                 (audio, far_audio, ["num_codebooks", "codebook_size", "sample_rate_hz", "frame_rate_hz"])):
            assert all(getattr(near, name) == getattr(far, name) for name in (*sizes, "fingerprint", "modality"))
        for words in ("a small red circle", "", "\ud800 lone"):
            assert torch.equal(text.encode(words), far_text.encode(words)) and far_text.decode(text.encode(words)) == words
        for frames in (1, 5):
            media = torch.randint(0, 256, (frames, 3, 16, 24), dtype=torch.uint8)
            a, b = vision.encode(media), far_vision.encode(media)
            assert torch.equal(a.latent, b.latent) and torch.equal(a.features, b.features)
            bits = vision.quantizer.encode(a.latent)
            assert all(map(torch.equal, bits.bits, far_vision.quantizer.encode(b.latent).bits))
            assert torch.equal(vision.decode(bits.total), far_vision.decode(bits.total))
        for length in (0, 1, 4000):
            wave = torch.randn(length)
            assert torch.equal(audio.encode(wave), far_audio.encode(wave))
        assert torch.equal(audio.decode(audio.encode(wave)), far_audio.decode(audio.encode(wave)))
        for near, far, bad in ((vision, far_vision, media[:2]), (vision, far_vision, media[..., :-1]), (audio, far_audio, media)):
            with pytest.raises(ValueError) as here:
                near.encode(bad)
            with pytest.raises(ValueError) as there:
                far.encode(bad)
            assert str(here.value) == str(there.value) and type(there.value) is ValueError
        assert "vision 6 media" in service.statistics.line() and service.statistics.line() == ""


def test_a_bug_is_no_damaged_medium(caplog) -> None:
    with serving({"audio": Odd()}) as service:
        audio = open_remote("audio", [service.address], 5)
        with pytest.raises(ValueError, match="^this sound is damaged$"):
            audio.encode(sound(1))
        with pytest.raises(ServiceFailed, match="KeyError: 'a bug'"):
            audio.encode(sound(2))
        with pytest.raises(ServiceFailed, match="not a Tensor"):
            audio.decode(torch.zeros(1, 1, dtype=torch.int64))
        assert audio.encode(sound(3)).item() == 3
        assert "1 damaged" in (line := service.statistics.line()) and "1 failed" in line


def test_a_medium_that_is_too_large_ends_the_run_and_is_not_skipped() -> None:
    with serving({"audio": Odd()}, config=ServerConfig(payload_bytes=2**14)) as service:
        audio = open_remote("audio", [service.address], 5)
        with pytest.raises(ConnectionError, match="larger than the service at tcp://127.0.0.1.*--max-mib"):
            audio.encode(torch.zeros(2**14))
        assert audio.encode(sound(0)).item() == 0


def test_long_work_is_no_silence(monkeypatch) -> None:
    class Slow(Odd):
        def encode(self, media):
            time.sleep(0.8)
            return super().encode(media)

    monkeypatch.setattr(server, "BEAT_S", 0.05)
    monkeypatch.setattr("ernie5.tokenizers.remote.replica.SILENCE_S", 0.5)
    slow = Slow()
    with serving({"audio": slow}) as service:
        assert open_remote("audio", [service.address], 5).encode(sound(3)).item() == 3
    assert slow.asked == [3]


def test_threads_and_forked_processes_have_connections_of_their_own() -> None:
    with serving({"audio": Odd()}, config=ServerConfig(threads=2)) as service:
        audio = open_remote("audio", [service.address], 5)
        with ThreadPoolExecutor(4) as pool:
            assert [int(codes) for codes in pool.map(audio.encode, [sound(v) for v in range(3, 40)])] == list(range(3, 40))
        workers = Workers(lambda draw: bytes([int(audio.encode(sound(draw.place)))]), 2)
        answers = [workers.submit(Draw(place, "s", place)) for place in range(9)]
        assert [audio.encode(sound(v)).item() for v in (8, 9)] == [8, 9]  # its connections are still its own
        assert [a.result(10) for a in answers if a is not answers[1] and a is not answers[2]] == [bytes([v]) for v in (0, *range(3, 9))]
        with pytest.raises(ValueError, match="^this sound is damaged$"):
            answers[1].result(10)
        with pytest.raises(RuntimeError, match="KeyError"):
            answers[2].result(10)
        workers.close()
        spawned = ForkingPickler.loads(ForkingPickler.dumps(audio))
        assert spawned.encode(sound(5)).item() == 5 and spawned.fingerprint == audio.fingerprint
    with pytest.raises(ConnectionError, match="no audio tokenizer service"):
        spawned.service.patience_s = 0.1
        spawned.encode(sound(5))


def test_a_replica_that_dies_is_replaced_and_comes_back(caplog) -> None:
    one, other = Odd(), Odd()
    first, second = Server({"audio": one}, ANY, None, ServerConfig()), Server({"audio": other}, ANY, None, ServerConfig())
    audio = open_remote("audio", [first.address, second.address], 5)
    for value in range(6):
        audio.encode(sound(3 + value))
    assert len(one.asked) == len(other.asked) == 3  # they share the work
    first.close()
    assert [audio.encode(sound(v)).item() for v in range(10, 14)] == [10, 11, 12, 13] and other.asked[-1] == 13
    assert warned(caplog, f"{first.address} (audio) cannot be used: connection refused")
    again = Odd()
    with serving({"audio": again}, first.address):
        wait_until(lambda: audio.encode(sound(20)) is not None and again.asked)
    second.close()


def test_work_that_is_lost_is_done_by_another_replica() -> None:
    begun, end = threading.Event(), threading.Event()

    class Stuck(Odd):
        def encode(self, media):
            begun.set()
            end.wait(10)
            raise AssertionError

    stuck, other = Server({"audio": Stuck()}, ANY, None, ServerConfig()), Server({"audio": Odd()}, ANY, None, ServerConfig())
    audio = open_remote("audio", [stuck.address, other.address], 5)
    with ThreadPoolExecutor(2) as pool:
        answers = [pool.submit(audio.encode, sound(5)) for _ in range(2)]
        assert begun.wait(5)
        cut(stuck)
        stuck.close(patience_s=0.0)
        assert [a.result(5).item() for a in answers] == [5, 5]
    end.set()
    other.close()


def test_a_frozen_replica_is_left_for_another(monkeypatch, caplog) -> None:
    monkeypatch.setattr("ernie5.tokenizers.remote.replica.SILENCE_S", 0.5)
    monkeypatch.setattr(handshake, "PATIENCE_S", 0.5)
    end = threading.Event()

    class Frozen(Odd):
        def encode(self, media):
            end.wait(10)
            return super().encode(media)

    with socket.create_server(("127.0.0.1", 0)) as mute, serving({"audio": Frozen()}) as frozen, serving({"audio": Odd()}) as other:
        addresses = [Address("127.0.0.1", mute.getsockname()[1]), frozen.address, other.address]
        audio = open_remote("audio", addresses, 5)
        assert [audio.encode(sound(v)).item() for v in (3, 4)] == [3, 4]
        assert all(warned(caplog, f"{address} (audio) cannot be used: it does not answer in time") for address in addresses[:2])
        end.set()


def test_nobody_answers(caplog, monkeypatch) -> None:
    with serving({"audio": Odd()}) as service:
        audio = open_remote("audio", [service.address], 0.2)
    with pytest.raises(ServiceError, match=r"service answered for 0.2 s \(tcp://127.0.0.1:\d+: connection refused\); start"):
        audio.encode(sound(3))
    assert warned(caplog, "waiting for the audio tokenizer service")
    with pytest.raises(ServiceError, match="answered for 0.1 s"):
        open_remote("audio", [service.address], 0.1)


def test_a_medium_that_kills_every_replica_ends_the_run() -> None:
    class Deadly(Odd):
        def encode(self, media):
            cut(service)
            return super().encode(media)

    with serving({"audio": Deadly()}) as service:
        with pytest.raises(ServiceError, match=f"{client.LOSSES} connections .* were lost over one medium"):
            open_remote("audio", [service.address], 30).encode(sound(3))


def test_another_fingerprint_is_refused_by_name(caplog) -> None:
    with serving({"vision": vision_tokenizer()}) as one, serving({"vision": vision_tokenizer(seed=1)}) as other:
        prints = [s.served["vision"].fingerprint for s in (one, other)]
        with pytest.raises(ServiceError, match=f"{other.address} .* is refused: .* {prints[1]}, and this run began with {prints[0]}"):
            open_remote("vision", [one.address, other.address], 5)
    with serving({"vision": vision_tokenizer()}, one.address):
        vision = open_remote("vision", [one.address], 0.3)
    with serving({"vision": vision_tokenizer(seed=1)}, one.address):
        with pytest.raises(ServiceError, match="this run began with"):
            vision.encode(torch.zeros(1, 3, 8, 8, dtype=torch.uint8))
    with pytest.raises(ServiceError, match="it serves audio and no 'vision'"), serving({"audio": Odd()}) as service:
        open_remote("vision", [service.address], 5)
