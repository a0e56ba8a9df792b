"""How long a collective takes: bytes over the slower of the links that it crosses, and a fixed time per call.

    all-reduce 2 (n-1)/n bytes     all-gather, reduce-scatter (n-1)/n bytes of the whole     all-to-all (n-1)/n of what a rank has

A ring over nodes uses the adapters of all its members in a node. Of an all-to-all the part for other nodes goes over a rank's own adapter.
Ranks are counted as Megatron counts them: tensor first, then context, data, pipeline; experts are shared by neighbours. Ours.
Letters: n ranks of a group.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.hardware import Hardware


@dataclass(frozen=True)
class Group:
    """`size` ranks, `stride` apart."""

    size: int
    stride: int

    def in_node(self, hardware: Hardware) -> int:
        """Members on one node."""
        return max(1, min(self.size, hardware.per_node // self.stride))


@dataclass(frozen=True)
class Flow:
    """What one rank sends, and how long that takes."""

    bytes: float = 0.0
    seconds: float = 0.0

    def __add__(self, other: "Flow") -> "Flow":
        return Flow(self.bytes + other.bytes, self.seconds + other.seconds)

    def __mul__(self, times: float) -> "Flow":
        return Flow(self.bytes * times, self.seconds * times)


@dataclass(frozen=True)
class Groups:
    """The groups of one rank of a plan."""

    tensor: Group
    context: Group
    expert: Group
    dense: Group         # ranks with the same dense weights
    expert_data: Group   # ranks with the same experts
    pipeline: Group

    @classmethod
    def of(cls, plan: ParallelPlan, world_size: int) -> "Groups":
        t, c, data = plan.tensor, plan.context, plan.data_size(world_size)
        return cls(Group(t, 1), Group(c, t), Group(plan.expert, 1), Group(c * data, t),
                   Group(plan.expert_data_size(world_size), plan.expert), Group(plan.pipeline, t * c * data))


def gather(whole: float, group: Group, hardware: Hardware) -> Flow:
    """All-gather to, or reduce-scatter of, `whole` bytes."""
    if group.size == 1:
        return Flow()
    members = group.in_node(hardware)
    rate = hardware.link if members == group.size else min(hardware.link, hardware.network * members)
    sent = whole * (group.size - 1) / group.size
    return Flow(sent, sent / rate + hardware.latency_s)


def all_reduce(size: float, group: Group, hardware: Hardware) -> Flow:
    return gather(size, group, hardware) * 2


def all_to_all(size: float, group: Group, hardware: Hardware) -> Flow:
    """`size` bytes per rank, spread evenly over the group."""
    if group.size == 1:
        return Flow()
    members, n = group.in_node(hardware), group.size
    seconds = max(size * (n - members) / n / hardware.network, size * (members - 1) / n / hardware.link)
    return Flow(size * (n - 1) / n, seconds + hardware.latency_s)


def send(size: float, group: Group, hardware: Hardware) -> Flow:
    """To the next rank of a group."""
    if group.size == 1:
        return Flow()
    return Flow(size, size / (hardware.link if group.in_node(hardware) == group.size else hardware.network) + hardware.latency_s)
