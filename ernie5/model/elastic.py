"""Sub-models: the same weights, fewer layers, fewer experts or a smaller top-k.

A `SubModel` is a value handed to `forward`; `FULL` is the whole model and equals passing nothing (a test holds it). Each layer sees only
its own part of it, a `SubLayer`. Several sub-models at once, one per packed sample: `elastic_samples.py`.
Report: §3.3 (depth, width and sparsity elasticity). Ours: decisions 28-30 (which layers may go, a set of experts per layer).
Letters: B rows, S positions, T = B*S, E experts, L layers, Q codebooks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from ernie5.model.config import ModelConfig


class SubLayer(NamedTuple):
    """What one layer does; None = as in the full model."""

    live: Tensor | None = None    # bool `E`, or `T E` for every token: the experts that may be chosen
    top_k: int | None = None      # how many are chosen
    used: Tensor | None = None    # `T`: so many of the chosen count, the best ones
    runs: Tensor | None = None    # bool `B S`: the other positions pass by


FULL_LAYER = SubLayer()


class Elastic(Protocol):
    """What `forward` asks of a sub-model, or of one per sample."""

    def keeps(self, layer: int) -> bool:
        """Whether any position runs this layer; a layer that none runs costs nothing."""

    def layer(self, index: int, num_experts: int, device: torch.device) -> SubLayer:
        """The part of one layer; the multi-token layer has index L."""


@dataclass(frozen=True)
class SubModel:
    """None means all. `keep_layers`: indices of executed layers. `experts`: the live experts of every layer of the full model, the
    multi-token layer last, equally many in each. `top_k`: experts per token.
    """

    keep_layers: tuple[int, ...] | None = None
    experts: tuple[tuple[int, ...], ...] | None = None
    top_k: int | None = None

    def keeps(self, layer: int) -> bool:
        return self.keep_layers is None or layer in self.keep_layers

    def layer(self, index: int, num_experts: int, device: torch.device) -> SubLayer:
        if self.experts is None:
            return SubLayer(None, self.top_k)
        live = torch.zeros(num_experts, dtype=torch.bool)
        live[list(self.experts[index])] = True
        return SubLayer(live.to(device), self.top_k)

    def check(self, config: ModelConfig, num_codebooks: int) -> None:
        """ValueError for a sub-model that this model does not hold."""
        always = always_kept(config.num_layers, num_codebooks)
        if self.keep_layers is not None and not always <= set(self.keep_layers) <= set(range(config.num_layers)):
            raise ValueError(f"SubModel.keep_layers = {self.keep_layers} must contain {sorted(always)} (the first layer and those that "
                             f"emit audio codes) and stay below {config.num_layers}")
        live = config.num_experts
        if self.experts is not None:
            live = len(self.experts[0]) if self.experts else 0
            all_experts = set(range(config.num_experts))
            alike = all(e and set(e) <= all_experts and len(set(e)) == len(e) == live for e in self.experts)
            if not alike or len(self.experts) != config.num_moe_layers:
                raise ValueError(f"SubModel.experts must name, for each of the {config.num_moe_layers} layers (multi-token layer last), "
                                 f"equally many of the experts 0..{config.num_experts - 1}; got {_short(self.experts)}")
        wanted = config.top_k if self.top_k is None else self.top_k
        if not 1 <= wanted <= min(config.top_k, live):
            raise ValueError(f"SubModel.top_k = {wanted} must lie between 1 and {min(config.top_k, live)} (model.top_k, live experts); "
                             "set a smaller top_k or keep more experts")

    def size(self, config: ModelConfig) -> tuple[int, int, int]:
        """(layers, experts per layer, top-k) that it runs."""
        layers = config.num_layers if self.keep_layers is None else len(self.keep_layers)
        return layers, config.num_experts if self.experts is None else len(self.experts[0]), self.top_k or config.top_k


FULL = SubModel()


def always_kept(num_layers: int, num_codebooks: int) -> set[int]:
    """The first layer carries the inputs, the top `num_codebooks` layers emit the audio codes."""
    return {0, *range(max(0, num_layers - num_codebooks), num_layers)}


def thinned(num_layers: int, num_codebooks: int, keep: int) -> tuple[int, ...]:
    """The layers of the sub-model of `keep` layers: those that always stay, and the middle thinned evenly. Always the same set."""
    always = always_kept(num_layers, num_codebooks)
    middle = [i for i in range(num_layers) if i not in always]
    wanted = keep - len(always)
    if not 0 <= wanted <= len(middle):
        raise ValueError(f"a sub-model of {keep} layers is impossible: {len(always)} of the {num_layers} layers always stay (the first, "
                         f"and one per audio code); use {len(always)} to {num_layers}")
    return tuple(sorted(always | {middle[(2 * i + 1) * len(middle) // (2 * wanted)] for i in range(wanted)}))


def has_row_per_expert(part: str, shape: tuple[int, ...], num_experts: int) -> bool:
    """Whether a tensor of a layer (`part`: its name below the layer) holds one row for each routed expert."""
    return part.startswith(("moe.experts.", "moe.router.")) and shape[:1] == (num_experts,)


class Touched(NamedTuple):
    """What a step trained: for every layer of the model (multi-token last) the experts that took part; an empty set = it did not run."""

    experts: tuple[frozenset[int], ...]
    num_experts: int


def touched(submodels: Sequence[SubModel], config: ModelConfig) -> Touched:
    """The union over the sub-models of a global step, on whatever rank they ran (decision 30)."""
    everything = frozenset(range(config.num_experts))
    found: list[frozenset[int]] = []
    for layer in range(config.num_moe_layers):
        running = [s for s in submodels if layer == config.num_layers or s.keeps(layer)]
        found.append(frozenset().union(*(everything if s.experts is None else frozenset(s.experts[layer]) for s in running)))
    return Touched(tuple(found), config.num_experts)


def _short(experts: tuple[tuple[int, ...], ...]) -> str:
    text = str(experts)
    return text if len(text) <= 80 else f"{text[:80]}…"
