"""The parameters that this process steps: whole local ones, or, where data ranks share the optimizer state, a flat piece of each.

A piece is what gradient norms, moments on their way in and out, and rows that a step left out are counted in. Ours.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ernie5.model.elastic import Touched
from ernie5.parallel.flat_ranges import boxes
from ernie5.parallel.megatron.place import Place
from ernie5.parallel.shards import Reader, Shape, Shard
from ernie5.parallel.untouched import untouched_rows
from ernie5.parallel.world import World


@dataclass(frozen=True)
class Held:
    """Elements start … stop - 1 of our tensor at `place`, which `optimizer` knows as `parameter`. `counts`: no other process speaks for
    them.
    """

    name: str
    place: Place
    start: int
    stop: int
    parameter: Tensor
    optimizer: torch.optim.Optimizer
    counts: bool

    def shards(self) -> Iterator[Shard]:
        """`optimizer.<slot>.<name>` of every tensor that the optimizer keeps."""
        for slot, value in self.optimizer.state.get(self.parameter, {}).items():
            key = f"optimizer.{slot}.{self.name}"
            if value.shape != self.parameter.shape:  # a count, the same for all pieces
                if self.counts and self.start == 0 and not any(self.place.at):
                    yield Shard.whole(key, value.detach())
            elif self.counts:
                pieces = value.detach().flatten().split([math.prod(size) for _, size in self.boxes()])
                for (at, size), piece in zip(self.boxes(), pieces, strict=True):
                    yield Shard(key, self.place.shape, self.in_whole(at), piece.view(size))

    def load(self, reader: Reader, slot: str) -> None:
        """One slot of the optimizer's state."""
        key = f"optimizer.{slot}.{self.name}"
        if reader.shapes[key] == self.place.shape and self.place.shape:
            read = [reader.read(key, self.in_whole(at), size).flatten() for at, size in self.boxes()]
            value = torch.cat(read).view(self.parameter.shape).to(self.parameter.device)
        else:
            on_cpu = slot == "step" and self.parameter.device.type == "cpu"
            value = reader.read(key).to("cpu" if on_cpu else self.parameter.device).clone()
        self.optimizer.state[self.parameter][slot] = value

    def boxes(self) -> list[tuple[Shape, Shape]]:
        return list(boxes(self.place.ours, self.start, self.stop))

    def in_whole(self, at: Shape) -> Shape:
        return tuple(a + b for a, b in zip(self.place.at, at, strict=True))

    def left_out(self, touched: Touched) -> list[slice] | None:
        """Which of our elements a step left out; None = all."""
        rows = untouched_rows(self.name, tuple(self.place.shape), touched)
        if rows is None:
            return None
        size = math.prod(self.place.ours[1:])
        ends = [((row - self.place.at[0]) * size, (row - self.place.at[0] + 1) * size) for row in rows]
        ours = [(max(a, self.start) - self.start, min(b, self.stop) - self.start) for a, b in ends]
        return [slice(a, b) for a, b in ours if a < b]


@torch.no_grad()
def clip(held: Sequence[Held], largest: float, world: World) -> float:
    """Scale gradients to a norm of at most `largest`; the norm before, over every element of the model once, the same number on every
    rank. Not finite when a gradient is not, on whatever rank.
    """
    gradients = [(h.parameter.grad, h.counts) for h in held if h.parameter.grad is not None]
    squares = torch.zeros(2, dtype=torch.float64, device=world.device)  # of what we speak for; of the rest, which must be finite too
    for gradient, counts in gradients:
        squares[0 if counts else 1] += torch.linalg.vector_norm(gradient).double() ** 2
    squares[1] = 0.0 if bool(torch.isfinite(squares[1])) else torch.nan
    total = world.sum(squares)
    norm = float(total[0].sqrt() + total[1])
    factor = min(1.0, largest / (norm + 1e-6))
    if factor < 1.0:
        for gradient, _ in gradients:
            gradient.mul_(factor)
    return norm


@contextmanager
def as_before(held: Sequence[Held], touched: Touched | None) -> Iterator[None]:
    """Inside, optimizers step; right after each step, before weights travel, what was not touched is bit for bit as before."""
    kept: list[tuple[Tensor, Tensor]] = []  # piece, its values
    for h in held if touched is not None else ():
        assert touched is not None
        left_out = h.left_out(touched)
        if left_out is None:
            h.parameter.grad = None
        elif left_out:
            moments = [m for m in h.optimizer.state.get(h.parameter, {}).values() if m.shape == h.parameter.shape]
            pieces = [tensor.detach().view(-1)[piece] for tensor in (h.parameter, *moments) for piece in left_out]
            kept += [(piece, piece.clone()) for piece in pieces]

    def put_back(*_: object) -> None:
        for piece, values in kept:
            piece.copy_(values)

    with ExitStack() as hooks:
        for optimizer in {id(h.optimizer): h.optimizer for h in held}.values():
            hooks.callback(optimizer.register_step_post_hook(put_back).remove)
        yield
