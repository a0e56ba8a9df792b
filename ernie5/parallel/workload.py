"""What a plan has to carry, as far as it decides whether and how the plan can: model, sub-models, shape of a step. Ours."""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.model.config import ModelConfig
from ernie5.model.elastic_space import ElasticConfig


@dataclass(frozen=True)
class Workload:
    """A global step of `rows` x `length` positions, cut into micro-batches of `micro_rows` rows per data rank (0 = all of a slot).
    `own_objective`: the loss is a user's own. `ramp`: steps begin smaller.
    """

    model: ModelConfig = ModelConfig()
    elastic: ElasticConfig = ElasticConfig()
    rows: int = 4
    length: int = 256
    micro_rows: int = 0
    own_objective: bool = False
    ramp: bool = False

    def share(self, data_size: int) -> int:
        """Rows of one slot that one data rank runs."""
        return self.rows // (data_size * self.elastic.slots)

    def rows_of_micro_batch(self, data_size: int) -> int:
        return min(self.micro_rows or self.share(data_size), self.share(data_size))

    def micro_batches(self, data_size: int) -> int:
        """So many passes one data rank makes in a step."""
        return self.elastic.slots * -(-self.share(data_size) // self.rows_of_micro_batch(data_size))
