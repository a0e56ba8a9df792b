"""The sub-models that training draws from, and the draw itself: a pure function of (seed, step, slot), the same on every rank.

    depth     with probability p_d:  n ~ U(depth.sizes) layers, the middle thinned evenly
    width     with probability p_w:  n ~ U(width.sizes) experts per layer, a random set in every layer
    sparsity  with probability p_s:  k ~ U(sparsity.sizes)                     each axis by itself, else its full size

Report: §3.3 (25 % depth, 20 % width, 20 % sparsity; sub-models are sampled per training instance). Ours: decisions 28-30: one draw for a
slot, a constant share of the global batch (`unit: slot`), or for every packed sample (`unit: sample`); experts block by block.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel, thinned
from ernie5.run.random_streams import stream


@dataclass(frozen=True)
class AxisConfig:
    """How often an axis is reduced, and to which sizes (drawn evenly)."""

    probability: float = 0.0
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class ElasticConfig:
    """`slots`: parts of a global batch with one sub-model each. `expert_blocks`: experts are kept in equal shares of so many blocks, so
    that expert parallelism of any degree dividing it stays even. `sizes` count layers, experts per layer, and experts per token.
    """

    unit: Literal["slot", "sample"] = "slot"
    slots: int = 1
    expert_blocks: int = 1
    depth: AxisConfig = AxisConfig()
    width: AxisConfig = AxisConfig()
    sparsity: AxisConfig = AxisConfig()

    @property
    def on(self) -> bool:
        """Whether anything but the full model can be drawn."""
        return any(axis.probability > 0 for axis in (self.depth, self.width, self.sparsity))

    def check(self, model: ModelConfig, num_codebooks: int) -> None:
        """ValueError with key, value, rule and way out; every drawable sub-model exists afterwards."""
        if self.slots < 1:
            raise ValueError(f"elastic.slots = {self.slots} must be at least 1")
        if self.expert_blocks < 1 or model.num_experts % self.expert_blocks:
            raise ValueError(f"elastic.expert_blocks = {self.expert_blocks} must divide model.num_experts = {model.num_experts}")
        lowest_depth = min(model.num_layers, 1 + num_codebooks)
        self._check_axis("depth", self.depth, lowest_depth, model.num_layers - 1, "layers: the first and one per audio code always stay")
        self._check_axis("width", self.width, self.expert_blocks, model.num_experts - 1, "experts per layer")
        self._check_axis("sparsity", self.sparsity, 1, model.top_k - 1, "experts per token, fewer than model.top_k")
        for size in self.width.sizes:
            if size % self.expert_blocks:
                raise ValueError(f"elastic.width.sizes: {size} experts cannot come evenly from elastic.expert_blocks = "
                                 f"{self.expert_blocks} blocks; use multiples of it")
            if size < model.top_k:
                raise ValueError(f"elastic.width.sizes: {size} experts are fewer than model.top_k = {model.top_k}; keep at least that many")

    def _check_axis(self, name: str, axis: AxisConfig, low: int, high: int, what: str) -> None:
        if not 0 <= axis.probability <= 1:
            raise ValueError(f"elastic.{name}.probability = {axis.probability} must lie between 0 and 1")
        if axis.probability > 0 and not axis.sizes:
            example = f"use for example [{high}]" if low <= high else f"this model has none to spare; use elastic.{name}.probability = 0"
            raise ValueError(f"elastic.{name}.sizes is empty, so nothing smaller can be drawn; {example} ({what})")
        for size in axis.sizes:
            if not low <= size <= high:
                allowed = f"use {low} to {high}" if low <= high else f"this model has none to spare; use elastic.{name}.probability = 0"
                raise ValueError(f"elastic.{name}.sizes: {size} is impossible; {allowed} ({what})")


@dataclass(frozen=True)
class ElasticSpace:
    """The sub-models of one model that a recipe allows."""

    config: ElasticConfig
    model: ModelConfig
    num_codebooks: int

    def sample(self, seed: int, step: int, slot: int | str) -> SubModel:
        """The sub-model of a slot (or, by its id, of a sample) in a step; axes are drawn one after the other from one stream."""
        random = stream(seed, "elastic", step, slot)
        layers, experts, top_k = (_draw(random, axis) for axis in (self.config.depth, self.config.width, self.config.sparsity))
        return SubModel(
            keep_layers=None if layers is None else thinned(self.model.num_layers, self.num_codebooks, layers),
            experts=None if experts is None else tuple(self._experts(random, experts) for _ in range(self.model.num_moe_layers)),
            top_k=top_k,
        )

    def _experts(self, random: np.random.Generator, num: int) -> tuple[int, ...]:
        """The same number from every block."""
        blocks = np.arange(self.model.num_experts).reshape(self.config.expert_blocks, -1)
        return tuple(sorted(int(e) for block in blocks for e in random.permutation(block)[: num // len(blocks)]))


def _draw(random: np.random.Generator, axis: AxisConfig) -> int | None:
    """One of the smaller sizes, or None for the full one."""
    return int(random.choice(axis.sizes)) if random.random() < axis.probability else None
