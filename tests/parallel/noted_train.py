"""`ernie5 train` on every rank of `torchrun noted_train.py OUT RECIPE.yaml [key=value …]`, with notes of what its loader did.

OUT/ids-RANK.jsonl: the sample ids of every batch; OUT/workers-RANK: the pids of all worker processes. Rank 0 kills one of its workers
before batch 3. Steps take long enough for a signal to arrive.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from pathlib import Path

import torch

from ernie5.cli.main import main as command_line
from ernie5.data_pipelines.loader import Loader
from ernie5.train import loop

KILLED_BEFORE_BATCH = 3


def noting(out: Path) -> None:
    """Patch the loader."""
    original, rank = Loader.next, os.environ["RANK"]
    number = 0

    def following(self, *args, **kwargs):
        nonlocal number
        number += 1
        children = self.stream.fetch.workers.children
        with open(out / f"workers-{rank}", "a") as file:
            file.write("".join(f"{child.pid}\n" for child in children if child.pid))
        if number == KILLED_BEFORE_BATCH and rank == "0":
            os.kill(children[0].pid, signal.SIGKILL)
        batch = original(self, *args, **kwargs)
        with open(out / f"ids-{rank}.jsonl", "a") as file:
            file.write(json.dumps(batch.sample_ids) + "\n")
        return batch

    Loader.next = following


def slow_steps() -> None:
    original = loop.train_step

    def slow(run, config, world):
        time.sleep(0.1)
        return original(run, config, world)

    loop.train_step = slow


def main() -> int:
    out, *words = sys.argv[1:]
    torch.set_num_threads(1)
    noting(Path(out))
    slow_steps()
    return command_line(["train", *words])


if __name__ == "__main__":
    sys.exit(main())
