"""Training with served tokenizers while replicas are killed at random: its metrics must be those of the same run with its own tokenizers.

    OMP_NUM_THREADS=1 python docs/benchmarks/tokenizer_kills.py RUN_DIR [--steps 100] [--replicas 2] [--workers 2] [--seed 0]

RUN_DIR is a finished run, whose recipe, tokenizers and data are used. Every sample is encoded whenever it is drawn. Vision and audio are
served by processes that are killed (SIGKILL), one after the other, after 0.1 to 1 s, and started again after 0 to 0.5 s.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import random
import socket
import subprocess
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch

from ernie5.run.log import logging_to
from ernie5.tokenizers.remote.address import Address
from ernie5.tokenizers.remote.server import Server, ServerConfig
from ernie5.train.served import open_tokenizers


def serve(folder: Path, port: int) -> None:
    """One life of a replica."""
    torch.set_num_threads(1)
    with logging_to(rank=1):
        Server(open_tokenizers(folder, ["vision", "audio"]), Address("127.0.0.1", port), None, ServerConfig())
        time.sleep(3600)


def born(folder: Path, port: int) -> BaseProcess:
    process = multiprocessing.get_context("fork").Process(target=serve, args=(folder, port), daemon=True)
    process.start()
    return process


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def train(run: Path, folder: Path, steps: int, *more: str) -> subprocess.Popen:
    settings = [f"run.dir={folder}", f"run.tokenizers={run}", f"train.steps={steps}", "train.checkpoint_every=1000000",
                "data.encode_ahead=0", "data.cache_gib=0.00001", "evaluate.at_end=false", *more]
    log = open(f"{folder}.log", "w")
    return subprocess.Popen([sys.executable, "-m", "ernie5", "train", str(run / "recipe.yaml"), *settings], stderr=log, stdout=log)


def metrics(folder: Path) -> list[dict]:
    """Without what time measures."""
    lines = (json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if not key.endswith("_s") and "mfu" not in key} for line in lines]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    for name, default in (("steps", 100), ("replicas", 2), ("workers", 2), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    draw, run = random.Random(args.seed), args.run.resolve()
    with tempfile.TemporaryDirectory() as place:
        alone, far = Path(place) / "alone", Path(place) / "far"
        assert train(run, alone, args.steps).wait() == 0, Path(f"{alone}.log").read_text()
        ports = [free_port() for _ in range(args.replicas)]
        replicas = [born(run, port) for port in ports]
        addresses = ", ".join(f"tcp://127.0.0.1:{port}" for port in ports)
        services = f"tokenizers.services={{vision: [{addresses}], audio: [{addresses}]}}"
        trainer = train(run, far, args.steps, services, f"data.workers={args.workers}")
        kills = 0
        while trainer.poll() is None:
            time.sleep(draw.uniform(0.1, 1.0))
            victim = draw.randrange(args.replicas)
            replicas[victim].kill()
            replicas[victim].join()
            kills += (far / "metrics.jsonl").exists()
            time.sleep(draw.uniform(0.0, 0.5))
            replicas[victim] = born(run, ports[victim])
        for replica in replicas:
            replica.kill()
        log = Path(f"{far}.log").read_text()
        assert trainer.returncode == 0, log
        same = metrics(alone) == metrics(far)
        print(f"{args.steps} steps, {kills} kills of {args.replicas} replicas after the first step, {log.count('cannot be used')} times a "
              f"process lost one, {log.count('waiting for the')} lines of waiting; metrics {'equal' if same else 'DIFFER'}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
