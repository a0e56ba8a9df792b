"""Threads that stand for the ranks of a job: `together(3, function)` runs `function(team)` as each of them, `team.add` is a real exchange.

`shares` cuts a small state as a plan would: rows, columns, experts, two boxes of one tensor, tensors that one rank alone holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import torch
from torch import Tensor

from ernie5.run.content import Piece
from ernie5.run.team import Team

SPLIT = {"model.query": 0, "model.out": 1, "model.experts.up": 0, "model.head": 2}  # tensor -> dimension


def together(size: int, function: Callable[[Team], Any]) -> list[Any]:
    """What every rank returns, or the exception that it raised."""
    meeting, said = Barrier(size, timeout=60), [[] for _ in range(size)]

    def run(rank: int) -> Any:
        def add(numbers: Sequence[int]) -> list[int]:
            said[rank] = list(numbers)
            meeting.wait()
            total = [sum(column) for column in zip(*said, strict=True)]
            meeting.wait()
            return total

        try:
            return function(Team(rank, size, add))
        except Exception as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


def state_of(step: int) -> dict[str, Tensor]:
    """The whole state."""
    generator = torch.Generator().manual_seed(step)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    tensors = {"model.query": random(12, 8), "model.out": random(8, 12), "model.experts.up": random(6, 4, 5), "model.head": random(2, 3, 7)}
    moments = {f"optimizer.exp_avg.{name.removeprefix('model.')}": random(*tensor.shape) for name, tensor in tensors.items()}
    rest = {"model.norm": random(8).bfloat16(), "optimizer.step.norm": torch.tensor(3.0 + step), "model.none": torch.zeros(0, 4)}
    return {**tensors, **moments, **rest}


def boxes_of(name: str, shape: tuple[int, ...], rank: int, size: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Where the parts of this rank lie: at, shape."""
    dim = next((d for tensor, d in SPLIT.items() if name.endswith(tensor.removeprefix("model."))), None)
    if dim is None:
        return [((0,) * len(shape), shape)] if rank == (0 if name.startswith("model.no") else size - 1) else []
    ends = [shape[dim] * r // size for r in range(size + 1)]
    at = tuple(ends[rank] if d == dim else 0 for d in range(len(shape)))
    box = tuple(ends[rank + 1] - ends[rank] if d == dim else n for d, n in enumerate(shape))
    if name == "model.out" and box[0] > 1:  # as a plan that cuts twice
        upper = (box[0] // 2, *box[1:])
        return [(at, upper), ((upper[0], *at[1:]), (box[0] - upper[0], *box[1:]))]
    return [(at, box)]


def shares(tensors: dict[str, Tensor], rank: int, size: int) -> list[Piece]:
    """The parts that one rank of `size` holds."""
    return [Piece(name, tuple(tensor.shape), at, tensor[tuple(slice(a, a + n) for a, n in zip(at, box, strict=True))])
            for name, tensor in tensors.items() for at, box in boxes_of(name, tuple(tensor.shape), rank, size)]
