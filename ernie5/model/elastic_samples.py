"""One sub-model per packed sample (`elastic.unit: sample`, as the report draws them), run in one pass.

A layer runs when any sample keeps it; positions of the others pass by unchanged. Width and top-k act token by token. Slots
(`elastic.py`) save the skipped work, samples do not: here a smaller sub-model costs as much as the full one.
Report: §1 (sub-models are sampled per training instance). Letters: B rows, S positions, T = B*S, E experts, U samples of the batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ernie5.model.elastic import FULL, SubLayer, SubModel
from ernie5.sequence import PackedSequence


@dataclass(frozen=True)
class SubModels:
    """`parts`: the sub-model of every sample, row after row, then the full one; `part`: whose a position is, `B S` (padding: the last)."""

    parts: tuple[SubModel, ...]
    part: Tensor

    @classmethod
    def of(cls, packed: PackedSequence, by_id: dict[str, SubModel]) -> "SubModels":
        """Look up every sample of a batch by its id."""
        parts = [by_id[sample] for row in packed.sample_ids for sample in row]
        firsts = [0]
        for row in packed.sample_ids[:-1]:
            firsts.append(firsts[-1] + len(row))
        first = torch.tensor(firsts, device=packed.sample.device)[:, None]
        return cls((*parts, FULL), torch.where(packed.sample >= 0, packed.sample + first, len(parts)))

    def keeps(self, layer: int) -> bool:
        return any(p.keeps(layer) for p in self.parts[:-1]) or len(self.parts) == 1

    def layer(self, index: int, num_experts: int, device: torch.device) -> SubLayer:
        """Per token: allowed experts, number of choices, and whether the layer runs at all."""
        runs = torch.tensor([p.keeps(index) for p in self.parts], device=device)[self.part]
        layers = [p.layer(index, num_experts, torch.device("cpu")) for p in self.parts]
        everything = torch.ones(num_experts, dtype=torch.bool)
        live = torch.stack([everything if p.live is None else p.live for p in layers]).to(device)[self.part.flatten()]
        if all(p.top_k is None for p in layers):
            return SubLayer(live, None, None, runs)
        used = torch.tensor([num_experts if p.top_k is None else p.top_k for p in layers], device=device)[self.part.flatten()]
        return SubLayer(live, None, used, runs)
