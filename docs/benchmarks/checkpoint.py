"""What a checkpoint costs beside its floor: the same bytes written by safetensors, fsynced and hashed; and how long it holds training up.

    python docs/benchmarks/checkpoint.py --folder /a/disk [--gib 1] [--rounds 7] [--ranks 2]

All variants take turns in every round (another order each round, files of the round before are gone and pages are written back before
each); printed are medians of seconds (wall and CPU) and of the ratios of wall time within a round, with quartiles.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from hashlib import sha256
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from ernie5.run.background import BackgroundSave
from ernie5.run.checkpoint import latest_checkpoint, save_checkpoint
from ernie5.run.content import Piece, Snapshot, whole
from ernie5.run.team import Team


def state(gib: float) -> dict[str, Tensor]:
    """Weights and two moments, as the state of a model of that size."""
    tensors: dict[str, Tensor] = {}
    generator = torch.Generator().manual_seed(0)
    for i in range(max(1, round(gib * 2**30 / (3 * 4 * 2**22)))):
        for slot in ("model", "optimizer.exp_avg", "optimizer.exp_avg_sq"):
            tensors[f"{slot}.layers.{i}.weight"] = torch.randn(2048, 2048, generator=generator)
    return tensors


def hash_file(path: Path) -> str:
    sha = sha256()
    with open(path, "rb") as file:
        while block := file.read(2**20):
            sha.update(block)
    return sha.hexdigest()


class Bench:
    """The variants; each leaves nothing behind but what `load` needs."""

    def __init__(self, folder: Path, tensors: dict[str, Tensor], ranks: int) -> None:
        self.folder, self.tensors, self.ranks = folder, tensors, ranks
        self.snapshot, self.stall = Snapshot(), (0.0, 0.0)

    def floor(self) -> None:
        path = self.folder / "floor.safetensors"
        save_file(self.tensors, path)
        with open(path, "rb") as file:
            os.fsync(file.fileno())
        hash_file(path)

    def at_once(self) -> None:
        save_checkpoint(self.folder / "at once", 1, self.tensors, {}, run_id="b", fingerprint="f")

    def beside(self) -> None:
        with BackgroundSave() as saving:
            start = now()
            parts = self.snapshot.take(whole(self.tensors))
            saving.start(partial(save_checkpoint, self.folder / "beside", 1, parts, {}, run_id="b", fingerprint="f"))
            self.stall = since(start)

    def by_ranks(self) -> None:
        """Threads as ranks, each with its rows of every tensor."""
        def rank(r: int) -> None:
            size = self.ranks
            parts = [Piece(n, tuple(t.shape), (len(t) * r // size, 0), t[len(t) * r // size : len(t) * (r + 1) // size])
                     for n, t in self.tensors.items()]
            save_checkpoint(self.folder / "ranks", 1, parts, {}, run_id="b", fingerprint="f", team=Team(r, size), attempt="b")

        with ThreadPoolExecutor(self.ranks) as pool:
            list(pool.map(rank, range(self.ranks)))

    def load_floor(self) -> None:
        hash_file(self.folder / "floor.safetensors")
        for tensor in load_file(self.folder / "floor.safetensors").values():
            tensor.clone()

    def load(self) -> None:
        found = latest_checkpoint(self.folder / "at once")
        assert found is not None
        for name in found.shapes:
            found.read(name)

    def load_columns(self) -> None:
        """The columns of rank 0 of two, saved as rows: verification and half of every tensor."""
        found = latest_checkpoint(self.folder / "ranks")
        assert found is not None
        for name, shape in found.shapes.items():
            found.read(name, (0, 0), (shape[0], shape[1] // 2))


def now() -> tuple[float, float]:
    """Wall and CPU clock."""
    return time.perf_counter(), time.process_time()


def since(start: tuple[float, float]) -> tuple[float, float]:
    wall, cpu = now()
    return wall - start[0], cpu - start[1]


def measure(bench: Bench, rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and CPU seconds of every variant in every round; one more round before, not counted."""
    saves: list[Callable[[], None]] = [bench.floor, bench.at_once, bench.beside, bench.by_ranks]
    loads: list[Callable[[], None]] = [bench.load_floor, bench.load, bench.load_columns]
    seconds: dict[str, list[tuple[float, float]]] = {}
    for number in range(rounds + 1):
        for group in (saves, loads):
            for variant in group[number % len(group) :] + group[: number % len(group)]:
                if group is saves:
                    shutil.rmtree(bench.folder / {"at_once": "at once", "by_ranks": "ranks"}.get(variant.__name__, variant.__name__),
                                  ignore_errors=True)
                    (bench.folder / "floor.safetensors").unlink(missing_ok=True) if variant == bench.floor else None
                os.sync()
                start = now()
                variant()
                took = since(start)
                if number:
                    seconds.setdefault(variant.__name__, []).append(took)
                    if variant == bench.beside:
                        seconds.setdefault("stall", []).append(bench.stall)
    return seconds


def ratio(a: list[tuple[float, float]], b: list[tuple[float, float]]) -> str:
    ratios = sorted(x / y for (x, _), (y, _) in zip(a, b, strict=True))
    low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    return f"{statistics.median(ratios):.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="an empty or new folder on the disk to measure")
    parser.add_argument("--gib", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--ranks", type=int, default=2)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    seconds = measure(Bench(given.folder, state(given.gib), given.ranks), given.rounds)
    for name, found in seconds.items():
        wall, cpu = (statistics.median(column) for column in zip(*found, strict=True))
        print(f"{name:14} {wall:7.3f} s wall {cpu:7.3f} s CPU")
    for text, a, b in (("save / floor", "at_once", "floor"), ("save beside, whole / floor", "beside", "floor"),
                       ("save by ranks / floor", "by_ranks", "floor"), ("stall of a save beside / save", "stall", "at_once"),
                       ("load / floor", "load", "load_floor"), ("load of another split / floor", "load_columns", "load_floor")):
        print(f"{text:32} {ratio(seconds[a], seconds[b])}")


if __name__ == "__main__":
    main()
