"""How full rows are, how even their cost is and how fast they are packed: best fit over a window, first fit, next fit.

    OMP_NUM_THREADS=1 python docs/benchmarks/packing.py [--window 1000] [--length 8192] [--rows 32] [--ranks 8] [--batches 60] [--rounds 7]

Lengths are those of a mixed corpus: log-normal web pages and long documents (cut at a row), pictures, clips and sounds with captions.
Printed per packer: share of positions in use; cost of the dearest rank over the mean rank, averaged over batches and in the worst one
(attention and experts of a layer of width 4096, cost.py); samples per CPU second, median of the rounds. Packers take turns in every round.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator

import numpy as np

from ernie5.data_pipelines.cost import Cost
from ernie5.data_pipelines.pack_window import WindowPacker
from ernie5.data_pipelines.packing import Packer

COST = Cost.of_layer(dim=4096, query_dim=8192, key_dim=1024, expert_dim=1536, active_experts=8)
Rows = list[list[int]]


def lengths(num_samples: int, length: int, seed: int = 0) -> list[int]:
    """Positions of samples in the order of a stream, at most `length`."""
    random = np.random.default_rng(seed)
    page = random.lognormal(np.log(450), 1.0, num_samples)
    document = random.lognormal(np.log(4000), 0.9, num_samples)
    picture = random.choice([170, 341, 597, 1100], num_samples) + random.lognormal(np.log(40), 0.7, num_samples)
    clip = random.choice([1400, 2600, 5200], num_samples) + random.lognormal(np.log(50), 0.6, num_samples)
    sound = 12.5 * random.uniform(1, 30, num_samples) + random.lognormal(np.log(30), 0.5, num_samples)
    kind = random.choice(5, num_samples, p=[0.4, 0.06, 0.34, 0.05, 0.15])
    return np.clip(np.choose(kind, [page, document, picture, clip, sound]), 8, length).astype(int).tolist()


def window_batches(sizes: list[int], rows: int, length: int, window: int) -> Iterator[Rows]:
    """Best fit, until the stream is too short for a whole batch."""
    stream, waiting = iter(sizes), []
    while True:
        old = iter(waiting)

        def more(old: Iterator[int] = old) -> tuple[int, int] | None:
            size = next(old, None) or next(stream, None)
            return None if size is None else (size, size)

        packer: WindowPacker[int] = WindowPacker(rows, length, window, COST)
        packer.fill(more)
        waiting = [*packer.waiting, *old]
        if len(waiting) < window // 2:
            return
        yield packer.rows


def first_fit_batches(sizes: list[int], rows: int, length: int) -> Iterator[Rows]:
    """What a recipe does without a window."""
    stream, waiting = iter(sizes), []
    while True:
        old = iter(waiting)

        def both(old: Iterator[int] = old) -> Iterator[tuple[int, int]]:
            while (size := next(old, None) or next(stream, None)) is not None:
                yield size, size

        packer: Packer[int] = Packer(rows, length)
        packer.fill(both())
        waiting = [*packer.waiting, *old]
        if not packer.full:
            return
        yield packer.rows


def next_fit_batches(sizes: list[int], rows: int, length: int) -> Iterator[Rows]:
    """The usual concatenation of whole samples: a row ends where the next sample does not fit."""
    done: Rows = []
    row: list[int] = []
    for size in sizes:
        if sum(row) + size > length:
            done, row = [*done, row], []
            if len(done) == rows:
                yield done
                done = []
        row.append(size)


def imbalance(rows: Rows, ranks: int) -> float:
    """Cost of the dearest rank over the mean; ranks hold neighbouring rows."""
    share = len(rows) // ranks
    costs = [sum(COST.of(size) for row in rows[rank * share : (rank + 1) * share] for size in row) for rank in range(ranks)]
    return max(costs) / (sum(costs) / ranks)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in {"window": 1000, "length": 8192, "rows": 32, "ranks": 8, "batches": 60, "rounds": 7}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    args = parser.parse_args()
    sizes = lengths(args.batches * args.rows * args.length // 650 + args.window, args.length)
    packers = {
        f"best fit, window {args.window}": lambda: window_batches(sizes, args.rows, args.length, args.window),
        "first fit": lambda: first_fit_batches(sizes, args.rows, args.length),
        "next fit": lambda: next_fit_batches(sizes, args.rows, args.length),
    }
    rates: dict[str, list[float]] = {name: [] for name in packers}
    for _ in range(args.rounds):
        for name, batches in packers.items():
            started = time.process_time()
            count = sum(len(row) for rows in batches() for row in rows)
            rates[name].append(count / (time.process_time() - started))
    print(f"{len(sizes):,} samples, mean {statistics.mean(sizes):.0f} positions; attention as dear as the rest at {COST.even_at:,.0f}")
    for name, batches in packers.items():
        made = list(batches())
        full = statistics.mean(sum(map(sum, rows)) / (args.rows * args.length) for rows in made)
        uneven, single = ([imbalance(rows, parts) for rows in made] for parts in (args.ranks, args.rows))
        print(f"{name:22s} {100 * full:6.2f} % full   max/mean cost of {args.ranks} ranks: {statistics.mean(uneven):.4f} "
              f"(worst {max(uneven):.4f}), of rows {statistics.mean(single):.4f}   {statistics.median(rates[name]):10,.0f} samples/s")


if __name__ == "__main__":
    main()
