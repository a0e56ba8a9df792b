"""Ranks whose batches lack a modality never hang and contribute exact gradients, under every engine that splits work by rows."""

import pytest
import torch
from gaps import GAPS, two_steps

from ernie5.parallel.shards import assemble
from ernie5.parallel.world import World

PLANS = {
    "data": {}, "fsdp": {"zero": 3}, "expert": {"expert": 2}, "zero 2": {"engine": "deepspeed", "zero": 2},
    "zero 3": {"engine": "deepspeed", "zero": 3, "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}},
}


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_gaps(ranks, plan, gap) -> None:
    alone, (_, mine) = two_steps(World(0, 1, torch.device("cpu")), {}, gap)[0], two_steps(World(0, 1, torch.device("cpu")), {}, gap)
    found = ranks.run(2, two_steps, plan, gap)
    for losses, _ in found:
        torch.testing.assert_close(losses, alone, rtol=1e-5, atol=1e-6)
    expected, weights = assemble(mine), assemble(shard for _, shards in found for shard in shards)
    for name in expected:
        torch.testing.assert_close(weights[name], expected[name], rtol=1e-3, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}")
