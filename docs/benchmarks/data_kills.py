"""The stream of samples under SIGKILL: a run that dies at random moments must see exactly the samples of one that never does.

    OMP_NUM_THREADS=1 python docs/benchmarks/data_kills.py [--kills 200] [--seed 0] [--window 0]

Every life is a process that writes its batches and, after each, its state, as a training run does; it is killed after a random time. Every
life draws its own number of ranks, workers, rows of a micro-batch, and whether it makes batches ahead. At the end, all batches are compared
with those of one uninterrupted process, and no worker process may be left. A life takes a fraction of a second. CI runs ten.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from ernie5.data_pipelines.collate import Widths
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.grouping import Grouping
from ernie5.data_pipelines.loader import BatchShape, Loader, LoaderState, SampleMaker, StreamConfig
from ernie5.data_pipelines.mixture import Mixture
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.run.files import atomic_write
from ernie5.run.lock import process_start
from ernie5.run.progress import progress
from ernie5.sequence import Modality, Sample, Segment
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer

SIZES = {"books": 400, "web": 90, "code": 31}
WEIGHTS = {"books": 2.0, "web": 1.0, "code": 0.4}


class Letters:
    """One token a letter."""

    modality = Modality.TEXT

    def encode(self, media: str) -> torch.Tensor:
        return torch.tensor([16 + ord(c) % 40 for c in media])


def read(source: str, place: int) -> Sample:
    """A text of its own length; a few are damaged."""
    if source == "web" and place % 17 == 3:
        raise ValueError("cut short")
    text = f"{source} {place} " + "word " * (7 * place % 23)
    return Sample(f"{source}/shard/{place}", (Segment(Modality.TEXT, text),), {})


def make_loader(
    rank: int = 0, world_size: int = 1, workers: int = 0, window: int = 0, sizes: dict[str, int] | None = None,
    weights: dict[str, float] | None = None, epochs: dict[str, float] | None = None,
    read: Callable[[str, int], Sample] = read, cache_gib: float = 0.001, layout: str = "",
) -> Loader:
    """A loader over texts that nothing has to be read or trained for."""
    grouping = Grouping(MultiscaleResidualQuantizer(num_scales=2, bits=4).eval(), 2, 16)
    encoder = Encoder(Tokenizers(Letters(), None, None), cache_gib)  # type: ignore[arg-type]
    maker = SampleMaker(read, lambda key, reason: None, lambda: None, encoder, grouping, RolesConfig(), seed=1, layout=layout)
    mixture = Mixture(dict(sizes or SIZES), dict(weights or WEIGHTS), seed=1, epochs=epochs or {})
    return Loader(maker, mixture, Widths(4, 2, 4, 8), rank, world_size, StreamConfig(workers, window))


def live(folder: Path, num_steps: int, life: random.Random, window: int) -> None:
    """Go on from the folder's state to `num_steps`, noting every batch before the state that counts it."""
    torch.set_num_threads(1)
    world_size = life.choice([1, 2, 4])
    loader = make_loader(life.randrange(world_size), world_size, life.randrange(4), window)
    (folder / "workers").open("a").write("".join(f"{c.pid}\n" for c in (loader.stream.fetch.workers or Nobody()).children))
    state = json.loads((folder / "state.json").read_text()) if (folder / "state.json").exists() else {"step": 0, "lines": 0}
    if state["step"]:
        loader.restore(LoaderState.from_json(state["loader"]))
    with open(folder / "batches.jsonl", "a+b") as file:
        file.truncate(state["lines"])
        shape, ahead = BatchShape(4, 160, life.choice([m for m in (1, 2, 4) if 4 // world_size % m == 0])), life.random() < 0.5
        for step in range(state["step"] + 1, num_steps + 1):
            batch = loader.next(shape, shape if ahead and step < num_steps else None)
            file.write(json.dumps([step, batch.sample_ids]).encode() + b"\n")
            file.flush()
            new = {"step": step, "lines": file.tell(), "loader": batch.state.to_json()}
            atomic_write(folder / "state.json", json.dumps(new).encode())
    loader.close()


class Nobody:
    """No workers."""

    children: tuple = ()


def fork(work: Callable[[], None]) -> int:
    """Run `work` in a child process; its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            work()
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    return pid


def compare(folder: Path, kills: int, seed: int, window: int) -> int:
    """Kill, go on, and in the end compare; how many steps were taken. AssertionError when anything differs."""
    chance = random.Random(seed)
    with progress("kills", kills) as bar:
        for number in range(kills):
            life = random.Random(1000 * seed + number)
            pid = fork(partial(live, folder, 10**9, life, window))
            time.sleep(chance.uniform(0.02, 0.3))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), "a life ended before it was killed"
            bar.advance()
    reached = json.loads((folder / "state.json").read_text())["step"] + 5
    assert os.waitpid(fork(lambda: live(folder, reached, chance, window)), 0)[1] == 0
    seen = [json.loads(line) for line in (folder / "batches.jsonl").read_text().splitlines()]
    whole = make_loader(window=window)
    expected = [[step, list(whole.next(BatchShape(4, 160, 4)).sample_ids)] for step in range(1, reached + 1)]
    whole.close()
    assert seen == expected, "the samples are not those of an uninterrupted run"
    deadline = time.monotonic() + 5
    pids = [int(pid) for pid in (folder / "workers").read_text().split()]
    while any(process_start(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers outlived their trainer"
        time.sleep(0.05)
    return reached


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--window", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        steps = compare(Path(folder), args.kills, args.seed, args.window)
    print(f"{args.kills} kills, {steps} steps: every batch is that of the uninterrupted run, no process is left")


if __name__ == "__main__":
    main()
