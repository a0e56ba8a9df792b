"""Where a tensor of this process lies in the whole one, by the sharding table and Megatron's groups. Ours."""

from __future__ import annotations

from typing import NamedTuple

from ernie5.model.sharding import split_dim, split_of
from ernie5.parallel.megatron.groups import Groups
from ernie5.parallel.shards import Shape

TEXT_TABLE = "embeddings.text.weight"  # on the first stage, and on the last for the multi-token module: the first one speaks for it


class Place(NamedTuple):
    """`shape` of the whole tensor, where ours begins, its own shape `ours`. `counts`: whether, of the ranks that hold the same because
    they are no data ranks of each other, we are the one that speaks for it; `replica`: which of the data ranks that hold the same we are.
    """

    shape: Shape
    at: Shape
    ours: Shape
    counts: bool
    replica: int

    @property
    def hands_out(self) -> bool:
        return self.counts and self.replica == 0

    @classmethod
    def of(cls, name: str, shape: Shape, groups: Groups) -> "Place":
        """`shape`: that of the whole tensor."""
        split = split_of(name)
        dim = split_dim(split)
        if dim is None:
            return cls(shape, (0,) * len(shape), shape, groups.tensor.rank == 0, groups.replicas.rank)
        axis, same = (groups.expert, groups.same_experts) if split == "expert" else (groups.tensor, groups.replicas)
        share = axis.share_of(shape[dim])
        at, ours = [0] * len(shape), list(shape)
        at[dim], ours[dim] = share.start, len(share)
        return cls(shape, tuple(at), tuple(ours), counts=name != TEXT_TABLE or groups.pipeline.rank == 0, replica=same.rank)
