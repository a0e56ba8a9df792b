"""Weights and moments of ZeRO 1 to 3 in the names and shapes of the model on one process, out of flat partitions and into them.

Out: one tensor after the other is put together from the stretches of all ranks, which hand them out in turn. In: every rank takes its own.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn

from ernie5.parallel.deepspeed.fragments import Fragment
from ernie5.parallel.deepspeed.untouched import fresh_moments
from ernie5.parallel.parts import Parts, check_names
from ernie5.parallel.shards import Reader, Shape, Shard
from ernie5.parallel.world import World

MOMENTS = ("exp_avg", "exp_avg_sq")


def shards_of_flat(
    model: nn.Module, optimizer: torch.optim.Optimizer, fragments: list[Fragment], parts: Parts, world: World
) -> Iterator[Shard]:
    """Every rank takes part in gathering each tensor; tensor i is handed out by rank i modulo their number."""
    steps = step_counts(model, optimizer, fragments, world)
    for number, (name, mine) in enumerate(by_name(model, fragments).items()):
        ours = number % world.size == world.rank
        found = {f"model.{name}": [(f, f.flat) for f in mine]}
        if name in steps:
            found |= {f"optimizer.{slot}.{name}": [(f, optimizer.state[f.flat][slot]) for f in mine] for slot in MOMENTS}
        for key, stretches in found.items():
            whole = together(stretches, parts[name].shape, world)
            if ours:
                yield Shard.whole(key, whole)
        if ours and name in steps:
            yield Shard.whole(f"optimizer.step.{name}", steps[name])
    if world.rank == 0:
        yield from (Shard.whole(f"model.{name}", x) for name, x in model.named_buffers() if name in parts)


@torch.no_grad()
def together(stretches: list[tuple[Fragment, Tensor]], shape: Shape, world: World) -> Tensor:
    """The whole tensor, from the stretches that each rank keeps of it in flat tensors."""
    whole = torch.zeros(torch.Size(shape).numel(), device=world.device)
    for fragment, flat in stretches:
        whole[fragment.start : fragment.start + fragment.n] = fragment.of(flat)
    return world.sum(whole).view(shape)


def step_counts(model: nn.Module, optimizer: torch.optim.Optimizer, fragments: list[Fragment], world: World) -> dict[str, Tensor]:
    """How many steps every parameter has taken, of those that have taken any; the same on every rank."""
    counts = {f.name: float(optimizer.state[f.flat]["step"]) for f in fragments if optimizer.state.get(f.flat)}
    names = [name for name, _ in model.named_parameters()]
    mine = torch.tensor([counts.get(name, 0.0) for name in names], device=world.device)
    if world.size > 1:
        dist.all_reduce(mine, dist.ReduceOp.MAX)
    return {name: torch.tensor(count) for name, count in zip(names, mine.tolist(), strict=True) if count > 0}


@torch.no_grad()
def load_flat(model: nn.Module, optimizer: torch.optim.Optimizer, fragments: list[Fragment], parts: Parts, reader: Reader) -> None:
    """Put our stretches back; parameters without saved moments start fresh. Errors as `load_parts`."""
    check_names(parts, reader)
    for flat in {id(f.flat): f.flat for f in fragments}.values():
        optimizer.state[flat] = fresh_moments(flat)
    stretches, parameters = by_name(model, fragments), dict(model.named_parameters())
    for name in parts:
        weight = reader.read(f"model.{name}")
        if name not in parameters:
            model.get_buffer(name).copy_(weight)
            continue
        computed_with(parameters[name], weight)
        moments = {slot: reader.read(f"optimizer.{slot}.{name}") for slot in MOMENTS if f"optimizer.{slot}.{name}" in reader.shapes}
        for fragment in stretches[name]:
            fragment.put(fragment.flat, weight)
            state = optimizer.state[fragment.flat]
            if moments:
                state["step"].copy_(reader.read(f"optimizer.step.{name}"))
            for slot, moment in moments.items():
                fragment.put(state[slot], moment)


def computed_with(parameter: Tensor, weight: Tensor) -> None:
    """Fill what the model computes with: the whole tensor, or this rank's slice of it under ZeRO 3."""
    mine = getattr(parameter, "ds_tensor", None)
    if mine is None:
        parameter.copy_(weight)
    else:
        start = dist.get_rank() * mine.numel()
        values = weight.flatten()[start : start + mine.numel()]
        mine.view(-1)[: values.numel()].copy_(values)


def by_name(model: nn.Module, fragments: list[Fragment]) -> dict[str, list[Fragment]]:
    """This rank's stretches of every parameter; a parameter may have none here."""
    found: dict[str, list[Fragment]] = {name: [] for name, _ in model.named_parameters()}
    for fragment in fragments:
        found[fragment.name].append(fragment)
    return found
