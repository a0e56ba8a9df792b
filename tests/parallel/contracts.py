"""What every engine owes under every plan, beside parity: exact resume, state that goes from plan to plan, steps that move nobody."""

from __future__ import annotations

import torch
from parity import LENGTH, Trained, alone, make_engine, train, whole
from tiny_world import batch

from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.train.training import Objective


def state_goes_from_plan_to_plan(ranks, size: int, plan: dict, elastic: bool, reference: Trained) -> None:
    """Three steps under the plan, two alone; and the other way round."""
    start = whole([alone(elastic, 3)])
    for last_two in (alone(elastic, 2, whole(ranks.run(size, train, plan, elastic, 3)), first=3),
                     ranks.run(size, train, plan, elastic, 2, start, 3)[0]):
        torch.testing.assert_close(last_two.losses, reference.losses[3:], rtol=1e-4, atol=1e-6)


def goes_on_bit_for_bit(ranks, size: int, plan: dict, elastic: bool) -> None:
    """Five steps are three, and two from what was saved."""
    five, three = ranks.run(size, train, plan, elastic), ranks.run(size, train, plan, elastic, 3)
    two = ranks.run(size, train, plan, elastic, 2, whole(three), 3)
    assert torch.equal(torch.cat([three[0].losses, two[0].losses]), five[0].losses)
    straight, resumed = whole(five), whole(two)
    assert straight.keys() == resumed.keys()
    assert not [name for name in straight if not torch.equal(straight[name], resumed[name])]


def one_rank_is_not_finite(world, plan: dict) -> bool:
    """The last rank weighs a loss with infinity: nobody may move. Whether all that this rank holds is as before."""
    engine = make_engine(world, plan, elastic=False)
    before = {shard.name: shard.data.clone() for shard in engine.shards()}
    batches = [MicroBatch(batch([["mixed"]], length=LENGTH))]
    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(TargetCounts.of(batches[0].packed), Weights(vision=torch.inf if world.rank == world.size - 1 else 1.0))
    engine.forward_backward(batches, objective)
    skipped = engine.optimizer_step(1e-2).skipped
    after = {shard.name: shard.data for shard in engine.shards()}
    return skipped and before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
