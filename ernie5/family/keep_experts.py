"""Which part of a trained model a smaller one keeps: its layers, the experts that matter, the number of experts per token.

    by usage:  score_e = mean over kinds r that occurred of  count_re / sum_e' count_re'      the best of every block stay
    even:      the experts in the middle of equal stretches of every block

A mean of shares, not of counts: a rare modality weighs as much as a frequent one, so it does not lose its experts.
Report: §3.3 (any subset of experts is a model); which one to keep is not said. Ours: by usage, block by block (decision 19).
Letters: L layers (multi-token layer last), R kinds of positions, E experts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel, always_kept, thinned

Experts = tuple[tuple[int, ...], ...]
Keep = Literal["usage", "even"]


def by_usage(usage: Tensor, num: int, blocks: int) -> Experts:
    """Counts `L R E` -> per layer the `num` experts of highest score, equally many from each of `blocks` consecutive blocks.

    ValueError for a layer that no position has reached: nothing is known of its experts.
    """
    counts = usage.double()
    idle = (counts.sum(dim=(1, 2)) == 0).nonzero().flatten().tolist()
    if idle:
        raise ValueError(f"no position reached layer {idle[0] + 1} when expert usage was measured; measure on more samples, "
                         "or keep an even subset (--keep even)")
    totals = counts.sum(dim=-1, keepdim=True)                                               # L R 1
    share = torch.where(totals > 0, counts / totals.clamp(min=1), 0.0)                      # L R E
    score = share.sum(dim=1) / (totals > 0).sum(dim=1)                                      # L E
    order = score.unflatten(-1, (blocks, -1)).argsort(dim=-1, descending=True, stable=True)  # L blocks E/blocks; of equals the first
    size = usage.shape[-1] // blocks
    best = order[..., : num // blocks] + torch.arange(blocks)[:, None] * size
    return tuple(tuple(sorted(layer)) for layer in best.flatten(1).tolist())


def evenly(num_experts: int, num: int, num_layers: int, blocks: int) -> Experts:
    """The same evenly spread `num` experts in every layer, equally many from each block."""
    size, kept = num_experts // blocks, num // blocks
    one = tuple(block * size + (2 * i + 1) * size // (2 * kept) for block in range(blocks) for i in range(kept))
    return (one,) * num_layers


@dataclass(frozen=True)
class Size:
    """A sub-model by its three numbers: executed layers, experts per layer, experts per token."""

    layers: int
    experts: int
    top_k: int

    @classmethod
    def full(cls, config: ModelConfig) -> "Size":
        return cls(config.num_layers, config.num_experts, config.top_k)

    def check(self, config: ModelConfig, num_codebooks: int, blocks: int) -> None:
        """ValueError, in the words of the command line, for a size that this model does not hold."""
        low = len(always_kept(config.num_layers, num_codebooks))
        if not low <= self.layers <= config.num_layers:
            raise ValueError(f"--layers {self.layers} must lie between {low} and {config.num_layers}: the first layer stays, "
                             f"and so do the {num_codebooks} that emit audio codes")
        if not 1 <= self.experts <= config.num_experts:
            raise ValueError(f"--experts {self.experts} must lie between 1 and model.num_experts = {config.num_experts}")
        if self.experts % blocks:
            raise ValueError(f"--experts {self.experts} must be a multiple of elastic.expert_blocks = {blocks}: "
                             "every block keeps equally many")
        if not 1 <= self.top_k <= config.top_k:
            raise ValueError(f"--top-k {self.top_k} must lie between 1 and model.top_k = {config.top_k}")
        if self.top_k > self.experts:
            raise ValueError(f"--top-k {self.top_k} is more than the {self.experts} experts that are kept; "
                             "use a smaller --top-k or more --experts")

    def submodel(self, config: ModelConfig, num_codebooks: int, experts: Experts | None) -> SubModel:
        """The sub-model of this size with these experts (not looked at when all stay)."""
        return SubModel(
            keep_layers=None if self.layers == config.num_layers else thinned(config.num_layers, num_codebooks, self.layers),
            experts=None if self.experts == config.num_experts else experts,
            top_k=None if self.top_k == config.top_k else self.top_k,
        )

    def key(self) -> tuple[int, int, int]:
        """For sorting, layers first."""
        return self.layers, self.experts, self.top_k

    def __str__(self) -> str:
        return f"{self.layers} layers, {self.experts} experts, top-{self.top_k}"
