"""Which sub-model runs which part of a step: one per slot of the global batch, or one per sample.

Every rank draws all of them, so nothing is exchanged. Report: §3.3. Ours: decision 28.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ernie5.data_pipelines.loader import Batch
from ernie5.model.elastic import SubModel
from ernie5.model.elastic_samples import SubModels
from ernie5.model.elastic_space import ElasticSpace
from ernie5.parallel.engine import MicroBatch


@dataclass(frozen=True)
class Drawn:
    """This rank's micro-batches with their sub-models, and the sub-models of the whole global step."""

    micro_batches: list[MicroBatch]
    submodels: list[SubModel]


def draw(space: ElasticSpace, batch: Batch, seed: int, step: int, device: torch.device) -> Drawn:
    """The sub-models of a step; the full model everywhere where the recipe is not elastic."""
    packed = [part.to(device) for part in batch.micro_batches]
    if not space.config.on:
        return Drawn([MicroBatch(part) for part in packed], [SubModel()])
    match space.config.unit:
        case "slot":
            by_slot = [space.sample(seed, step, slot) for slot in range(space.config.slots)]
            return Drawn([MicroBatch(part, by_slot[slot]) for part, slot in zip(packed, batch.slots, strict=True)], by_slot)
        case "sample":
            by_id = {sample: space.sample(seed, step, sample) for sample in batch.sample_ids}
            return Drawn([MicroBatch(part, SubModels.of(part, by_id)) for part in packed], list(by_id.values()))
