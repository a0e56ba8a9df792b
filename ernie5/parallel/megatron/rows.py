"""Ranks that exchange rows of experts must run the same layers. Sub-models of slots are the same on all of them; those of samples are not,
so where any rank runs a layer, all do: for the others every position passes by. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.distributed as dist

from ernie5.model.elastic import Elastic, SubLayer, SubModel
from ernie5.model.elastic_samples import SubModels
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.megatron.groups import Axis


@dataclass(frozen=True)
class RunsMore:
    """A sub-model of one per sample, and the layers that some rank runs."""

    inner: SubModels
    kept: frozenset[int]

    def keeps(self, layer: int) -> bool:
        return layer in self.kept

    def layer(self, index: int, num_experts: int, device: torch.device) -> SubLayer:
        return self.inner.layer(index, num_experts, device)


def alike(micro_batch: MicroBatch, axis: Axis, num_layers: int) -> MicroBatch:
    """The same micro-batch, with a sub-model that keeps what any rank of the axis keeps. Collective where sub-models are per sample."""
    submodel: Elastic = micro_batch.submodel
    if axis.size == 1 or isinstance(submodel, SubModel):
        return micro_batch
    assert isinstance(submodel, SubModels)
    keeps = torch.tensor([submodel.keeps(i) for i in range(num_layers)], dtype=torch.uint8, device=micro_batch.packed.sample.device)
    dist.all_reduce(keeps, op=dist.ReduceOp.MAX, group=axis.group)
    return replace(micro_batch, submodel=RunsMore(submodel, frozenset(keeps.nonzero().flatten().tolist())))
