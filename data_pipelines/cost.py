"""What a sample costs to train on: how long its positions keep a machine busy, attention and experts together.

    forward FLOPs of a layer on a sample of n positions =  n * 2 (D (2 Q + 2 K) + 3 D F A)        projections, SwiGLU of A active experts
                                                        +  n^2 * 2 Q                              scores and values, half of them masked
    cost(n) = n (1 + n / even_at),     even_at = (D (2 Q + 2 K) + 3 D F A) / Q

The unit is a position of a very short sample; at `even_at` positions attention costs as much as all the rest. Backward passes, layers and
machines multiply both parts alike. Ours. Letters: D width, Q and K widths of all query and all key heads, F expert width.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Cost:
    """`even_at`: the length in positions at which attention costs as much as projections and experts."""

    even_at: float = 32_768.0

    def __post_init__(self) -> None:
        if not self.even_at > 0:
            raise ValueError(f"even_at = {self.even_at} is a length in positions; use a number above 0")

    @classmethod
    def of_layer(cls, dim: int, query_dim: int, key_dim: int, expert_dim: int, active_experts: int) -> "Cost":
        """`query_dim` = heads x head width, `key_dim` = key-value heads x head width."""
        return cls((dim * (2 * query_dim + 2 * key_dim) + 3 * dim * expert_dim * active_experts) / query_dim)

    def of(self, num_positions: int) -> float:
        """The cost of one sample, in positions of a very short one."""
        return num_positions * (1 + num_positions / self.even_at)
