"""Context parallelism of the Megatron engine does what one process does."""

import pytest
import torch
from megatron_ranks import losses_from, resumed, step_of
from parity import MODEL, alone, check_parity, train, whole
from pipeline_ranks import in_bf16, refused_step

from ernie5.parallel.shards import assemble
from ernie5.parallel.world import World

ALONE = World(0, 1, torch.device("cpu"))
TWO = {"engine": "megatron", "context": 2}


@pytest.mark.parametrize(("size", "plan", "elastic"), [
    (2, TWO, False), (2, TWO, True),
    (4, {**TWO, "expert": 4, "zero": 1}, True),
    (4, {**TWO, "tensor": 2, "sequence": True}, True),
], ids=str)
def test_parity(ranks, references, size, plan, elastic) -> None:
    check_parity(ranks.run(size, train, plan, elastic), references[elastic])


def test_sub_models_of_samples(ranks) -> None:
    """Two context and two data ranks exchange rows of experts; a layer that one data rank runs and the other does not."""
    check_parity(ranks.run(4, step_of, {**TWO, "expert": 4}, MODEL, True), step_of(ALONE, {}, MODEL, True))


def test_bf16(ranks) -> None:
    exact = step_of(ALONE, {}).losses
    for losses in ranks.run(2, in_bf16, {"context": 2}):
        torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.05)


def test_a_resumed_run_is_the_uninterrupted_one(ranks) -> None:
    found = ranks.run(2, resumed, {**TWO, "expert": 2, "zero": 1})
    went_on, resumed_there = whole([a for a, _ in found]), whole([b for _, b in found])
    assert went_on.keys() == resumed_there.keys() and all(torch.equal(went_on[name], resumed_there[name]) for name in went_on)


def test_a_state_moves_between_plans(ranks, references) -> None:
    saved = whole([references[False]])
    found = ranks.run(2, losses_from, {**TWO, "expert": 2}, saved)
    back = assemble(shard for _, shards in found for shard in shards)
    assert back.keys() == saved.keys() and all(torch.equal(back[name], saved[name]) for name in saved)
    torch.testing.assert_close(found[0][0], alone(steps=1, start=saved).losses, rtol=1e-6, atol=1e-6)


def test_rows_that_cannot_be_cut_are_refused(ranks) -> None:
    assert all("make train.length a multiple of 4" in found for found in ranks.run(2, refused_step, {"context": 2}, [62]))
