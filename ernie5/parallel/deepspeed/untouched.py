"""Rows and layers that a step left out, put back inside DeepSpeed's flat partitions before the new weights are gathered.

DeepSpeed calls the optimizer once per flat partition; hooks before and after that call keep the values and put them back. Step counts too:
a partition belongs to one layer, so that its count stands still where the layer ran nowhere. Ours: decision 30.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from ernie5.model.elastic import Touched
from ernie5.parallel.deepspeed.fragments import Fragment
from ernie5.parallel.parts import Parts
from ernie5.parallel.untouched import LAYER, untouched_rows


def by_layer(model: nn.Module, optimizer: torch.optim.Optimizer) -> list[dict[str, Any]]:
    """The optimizer's groups, each cut into one per layer (multi-token last) and one for the rest."""
    layer_of = {}
    for name, parameter in model.named_parameters():
        match = LAYER.fullmatch(name)
        layer_of[parameter] = "rest" if match is None else match[1] or "multi_token"
    groups = []
    for group in optimizer.param_groups:
        layers: dict[str, list[Tensor]] = {}
        for parameter in group["params"]:
            layers.setdefault(layer_of[parameter], []).append(parameter)
        groups += [{**group, "params": parameters} for parameters in layers.values()]
    return groups


class FlatUntouched:
    """`as_before(touched)` around a step of DeepSpeed."""

    def __init__(self, optimizer: torch.optim.Optimizer, fragments: list[Fragment], parts: Parts) -> None:
        self.fragments, self.parts, self.optimizer = fragments, parts, optimizer
        self.places: dict[Tensor, Tensor | None] = {}  # flat -> what of it stays; None = all of it, the step count too
        self.kept: list[tuple[Tensor, Tensor | None, Tensor]] = []
        optimizer.register_step_pre_hook(lambda *_: self._keep())
        optimizer.register_step_post_hook(lambda *_: self._put_back())

    @contextmanager
    def as_before(self, touched: Touched | None) -> Iterator[None]:
        self.places = {} if touched is None else self._places(touched)
        yield
        self.places = {}

    def _places(self, touched: Touched) -> dict[Tensor, Tensor | None]:
        """What stays of every flat partition of which anything does."""
        stays: dict[Tensor, list[Tensor]] = {}
        whole: dict[Tensor, None] = {}
        for fragment in self.fragments:
            shape = self.parts[fragment.name].shape
            rows = untouched_rows(fragment.name, shape, touched)
            if rows is None:
                whole[fragment.flat] = None
            elif rows:
                stays.setdefault(fragment.flat, []).append(fragment.rows(rows, torch.Size(shape[1:]).numel()))
        return {**whole, **{flat: torch.cat(places).to(flat.device) for flat, places in stays.items()}}

    def _keep(self) -> None:
        """Before the optimizer steps the partition that is its only group now."""
        for flat in (p for group in self.optimizer.param_groups for p in group["params"]):
            if flat in self.places:
                places, state = self.places[flat], self.optimizer.state[flat]
                if not state:  # the first step makes them; after it they must look as if it had not been
                    state.update(fresh_moments(flat))
                for tensor in (flat, *state.values()):
                    if places is None:
                        self.kept.append((tensor, None, tensor.detach().clone()))
                    elif tensor.ndim:
                        self.kept.append((tensor, places, tensor.detach().index_select(0, places)))

    @torch.no_grad()
    def _put_back(self) -> None:
        for tensor, places, values in self.kept:
            tensor.copy_(values) if places is None else tensor.index_copy_(0, places, values)
        self.kept = []


def fresh_moments(flat: Tensor) -> dict[str, Tensor]:
    """The state of AdamW before its first step."""
    return {"step": torch.zeros((), device=flat.device), "exp_avg": torch.zeros_like(flat), "exp_avg_sq": torch.zeros_like(flat)}
