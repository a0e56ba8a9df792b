"""What asking a tokenizer service costs beside encoding here: latency of a medium, the way alone, and throughput of several threads.

    OMP_NUM_THREADS=1 python docs/benchmarks/remote_tokenizer.py [--rounds 9] [--seconds 0.3] [--peers]

The service runs in a process of its own on this machine, one torch thread per medium, over loopback TCP, as trainers use it. Here and there
take turns in every round; printed are medians over the rounds (and the least). CPU is that of both processes together, per medium: it says
what the way costs when other programs keep the cores busy. Tokenizers have the default sizes and random weights, which
cost the same as trained ones. `--peers` also sends the same bytes over pyzmq (REQ / REP, no checks, no authentication), if it is installed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

import torch
from torch import Tensor

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.tokenizers.remote.tokenizers import open_remote
from ernie5.tokenizers.text_training import train_text_tokenizer
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer

MIB = 2**20


class Echo:
    """No work at all: what is left is the way."""

    modality = Modality.AUDIO
    num_codebooks, codebook_size, sample_rate_hz, frame_rate_hz, fingerprint = 1, 2, 16_000, 12.5, "0" * 16

    def encode(self, media: Tensor) -> Tensor:
        return torch.zeros(1, 1, dtype=torch.int64)

    def decode(self, codes: Tensor) -> Tensor:
        return codes


def tokenizers() -> dict:
    torch.manual_seed(0)
    text = train_text_tokenizer(["a small red circle above a big blue square", "two beeps, then silence"] * 20, 300)
    return {"text": text, "vision": VisionGenerationTokenizer(GenerationTokenizerConfig()), "audio": AudioCodec(AudioCodecConfig()).eval()}


def serve(told: Connection, echo: bool) -> None:
    """The other process, until it is told to end."""
    torch.set_num_threads(1)
    server = Server({"audio": Echo()} if echo else tokenizers(), Address("127.0.0.1", 0), None, ServerConfig(threads=2))
    told.send(server.address.port)
    while told.recv() == "cpu":
        told.send(time.process_time())
    server.close()


def serve_zmq(told: Connection) -> None:
    """The other process of pyzmq: answers a byte to whatever comes, until it is empty."""
    import zmq

    socket = zmq.Context().socket(zmq.REP)
    told.send(socket.bind_to_random_port("tcp://127.0.0.1"))
    while socket.recv():
        socket.send(b"x")


def started(target: Callable, *args: object) -> tuple[int, Connection]:
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=target, args=(there, *args), daemon=True).start()
    return here.recv(), here


def cpu_s(other: Connection) -> float:
    """What this process and the service have used so far."""
    other.send("cpu")
    return time.process_time() + other.recv()


def ms_each(work: Callable[[], object], seconds: float, other: Connection) -> tuple[float, float]:
    """Mean wall and CPU time of a call, in ms, over about so many seconds."""
    number, cpu, start = 0, cpu_s(other), time.perf_counter()
    while (spent := time.perf_counter() - start) < seconds:
        work()
        number += 1
    return 1000 * spent / number, 1000 * (cpu_s(other) - cpu) / number


def in_turn(works: dict[str, Callable[[], object]], args: argparse.Namespace, other: Connection) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU ms of each work in every round; the first round warms up."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(args.rounds + 1):
        for name, work in works.items():
            spent = ms_each(work, args.seconds, other)
            if number:
                found[name].append(spent)
    return found


def shown(found: list[tuple[float, float]], which: int) -> str:
    values = [pair[which] for pair in found]
    return f"{statistics.median(values):.3f} ({min(values):.3f})".rjust(20)


def latency(near: dict, far: dict, args: argparse.Namespace, other: Connection) -> None:
    picture = lambda t, side: torch.randint(0, 256, (t, 3, side, side), dtype=torch.uint8)  # noqa: E731
    cases = {"text of 43 characters": ("text", "a small red circle above a big blue square."), "image 64 x 64": ("vision", picture(1, 64)),
             "image 256 x 256": ("vision", picture(1, 256)), "clip 17 x 64 x 64": ("vision", picture(17, 64)),
             "sound of 2 s": ("audio", torch.randn(32_000)), "sound of 30 s": ("audio", torch.randn(480_000))}
    print(f"{'one medium, one thread: ms':26}{'here':>20}{'service':>20}{'CPU here':>20}{'CPU service':>20}{'more CPU':>10}")
    for name, (kind, medium) in cases.items():
        works = {"near": lambda k=kind, m=medium: near[k].encode(m), "far": lambda k=kind, m=medium: far[k].encode(m)}
        found = in_turn(works, args, other)
        extra = statistics.median(b[1] - a[1] for a, b in zip(found["near"], found["far"], strict=True))
        print(f"{name:26}" + "".join(shown(found[side], which) for which in (0, 1) for side in ("near", "far")) + f"{extra:10.3f}")


def way(args: argparse.Namespace) -> None:
    port, told = started(serve, True)
    echo = open_remote("audio", [Address("127.0.0.1", port)])
    print(f"\n{'the way alone: ms':26}{'service':>20}{'CPU service':>20}" + (f"{'pyzmq':>20}" if args.peers else ""))
    peer = None
    if args.peers:
        import zmq

        peer = zmq.Context().socket(zmq.REQ)
        peer.connect(f"tcp://127.0.0.1:{started(serve_zmq)[0]}")
    for name, size in (("1 KiB", 2**10), ("64 KiB", 2**16), ("1 MiB", MIB), ("16 MiB", 16 * MIB)):
        medium = torch.zeros(size // 4)
        works: dict[str, Callable[[], object]] = {"ours": lambda m=medium: echo.encode(m)}
        if peer is not None:
            works["peer"] = lambda m=medium, p=peer: (p.send(m.numpy().tobytes()), p.recv())
        found = in_turn(works, args, told)
        print(f"{name:26}" + shown(found["ours"], 0) + shown(found["ours"], 1) + (shown(found["peer"], 0) if args.peers else ""))
    if peer is not None:
        peer.send(b"")
    told.send("end")


def throughput(near: dict, far: dict, args: argparse.Namespace) -> None:
    print(f"\n{'two media at once: media/s':26}{'here':>18}{'service':>18}{'share':>12}")
    for name, kind, medium in (("image 64 x 64", "vision", torch.randint(0, 256, (1, 3, 64, 64), dtype=torch.uint8)),
                               ("sound of 2 s", "audio", torch.randn(32_000))):
        rates: dict[str, list[float]] = {"near": [], "far": []}
        with ThreadPoolExecutor(2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            for number in range(args.rounds + 1):
                for side, tokenizer in (("near", near[kind]), ("far", far[kind])):
                    start = time.perf_counter()
                    list(pool.map(tokenizer.encode, [medium] * 200))
                    if number:
                        rates[side].append(200 / (time.perf_counter() - start))
        share = statistics.median(b / a for a, b in zip(rates["near"], rates["far"], strict=True))
        print(f"{name:26}" + "".join(f"{statistics.median(r):9.0f} ({max(r):.0f})".rjust(18) for r in rates.values()) + f"{share:12.0%}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=0.3)
    parser.add_argument("--peers", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    near = tokenizers()
    port, told = started(serve, False)
    far = {kind: open_remote(kind, [Address("127.0.0.1", port)]) for kind in near}
    assert all(near[kind].fingerprint == far[kind].fingerprint for kind in near)
    latency(near, far, args, told)
    throughput(near, far, args)
    told.send("end")
    way(args)


if __name__ == "__main__":
    main()
