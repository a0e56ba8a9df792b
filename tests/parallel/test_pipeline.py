"""Pipelines of the Megatron engine, 1F1B and interleaved, do what one process does; Megatron's own schedules run them."""

import dataclasses

import pytest
import torch
from megatron_ranks import after_each, losses_from, not_finite, refused, resumed, step_of
from parity import MODEL, alone, check_parity, train, two_slots, whole
from pipeline_ranks import in_bf16, order_of_passes, refused_step, text_tables, what_is_held
from tiny_world import small_model

from ernie5.model.elastic import touched
from ernie5.parallel.shards import assemble
from ernie5.parallel.world import World

ALONE = World(0, 1, torch.device("cpu"))
TWO, INTERLEAVED = {"pipeline": 2}, {"pipeline": 2, "virtual_pipeline": 2}


@pytest.mark.parametrize(("size", "plan", "elastic"), [
    (2, TWO, False), (2, TWO, True), (2, INTERLEAVED, False), (2, INTERLEAVED, True),
    (2, {"pipeline": 2, "virtual_pipeline": 3}, True),                              # sub-models leave out all of a stage
    (4, {"pipeline": 2, "tensor": 2, "sequence": True}, True),
    (4, {"pipeline": 2, "expert": 2, "zero": 1}, True),
    (4, {"pipeline": 2, "virtual_pipeline": 2, "context": 2}, True),
], ids=str)
def test_parity(ranks, references, size, plan, elastic) -> None:
    check_parity(ranks.run(size, train, {"engine": "megatron", **plan}, elastic), references[elastic])


def test_megatrons_schedules_run(ranks) -> None:
    """One forward, one backward pass; the first rank is ahead by what the others still have to do."""
    plain = "forward_backward_pipelining_without_interleaving"
    assert [found[:2] for found in ranks.run(2, order_of_passes, TWO)] == [(plain, "FFBFBFBB"), (plain, "FBFBFBFB")]
    first, last = ranks.run(2, order_of_passes, INTERLEAVED)
    assert first[:2] == ("forward_backward_pipelining_with_interleaving", "FFFFFBFBFBFBBBBB")
    assert last[1] == "FFFBFBFBFBFBFBBB" and first[2] > 0 and last[2] > 0


def test_each_process_holds_its_stages_alone(ranks) -> None:
    (first, kept), (last, _) = ranks.run(2, what_is_held, INTERLEAVED)
    assert first == kept and first | last == {name for name, _ in small_model(MODEL).named_parameters()}
    assert first & last == {"embeddings.text.weight"}


def test_both_ends_hold_the_same_text_table(ranks) -> None:
    """Bit for bit, though each has seen its own reads."""
    first, last = ranks.run(2, text_tables, TWO, 3)
    assert torch.equal(first, last) and not torch.equal(first, small_model(MODEL).embeddings.text.weight)


@pytest.mark.parametrize(("size", "plan"), [(2, TWO), (4, {"pipeline": 2, "tensor": 2, "sequence": True})], ids=str)
def test_sub_models_of_samples(ranks, size, plan) -> None:
    found = ranks.run(size, step_of, {"engine": "megatron", **plan}, MODEL, True)
    check_parity(found, step_of(ALONE, {}, MODEL, True))


@pytest.mark.parametrize(("plan", "changes"), [
    (INTERLEAVED, {"router": "ernie5.model.router_auxiliary:AuxiliaryLossRouter", "codec": "parallel"}),
    (TWO, {"multi_token": False, "num_shared_experts": 1}),
], ids=["losses of routers on every stage, parallel codes", "no multi-token module"])
def test_other_models(ranks, plan, changes) -> None:
    model = dataclasses.replace(MODEL, **changes)
    check_parity(ranks.run(2, step_of, {"engine": "megatron", **plan}, model), step_of(ALONE, {}, model))


def test_bf16(ranks) -> None:
    exact = step_of(ALONE, {}).losses
    for losses in ranks.run(2, in_bf16, INTERLEAVED):
        torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.05)


def test_a_resumed_run_is_the_uninterrupted_one(ranks) -> None:
    found = ranks.run(2, resumed, {"engine": "megatron", **INTERLEAVED})
    went_on, resumed_there = whole([a for a, _ in found]), whole([b for _, b in found])
    assert went_on.keys() == resumed_there.keys() and all(torch.equal(went_on[name], resumed_there[name]) for name in went_on)
    for a, b in found:
        assert torch.equal(a.losses, b.losses) and a.norms == b.norms


@pytest.mark.parametrize("plan", [TWO, INTERLEAVED], ids=str)
def test_a_state_moves_between_plans(ranks, references, plan) -> None:
    """From one process to stages and back: to the last bit, and it predicts the same."""
    saved = whole([references[False]])
    found = ranks.run(2, losses_from, {"engine": "megatron", **plan}, saved)
    back = assemble(shard for _, shards in found for shard in shards)
    assert back.keys() == saved.keys() and all(torch.equal(back[name], saved[name]) for name in saved)
    expected = alone(steps=1, start=saved).losses
    for losses, _ in found:
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_trained_in_stages_read_by_one_process(ranks) -> None:
    state = whole(ranks.run(2, train, {"engine": "megatron", **TWO}, False, 2))
    again = ranks.run(2, losses_from, {"engine": "megatron", **TWO}, state)
    torch.testing.assert_close(alone(steps=1, start=state).losses, again[0][0], rtol=1e-6, atol=1e-6)


def test_what_a_step_left_out_stays_bit_for_bit(ranks) -> None:
    """Stages whose two data ranks share the optimizer state. Step 2 runs half of the experts, step 4 not layer 1."""
    found = ranks.run(4, after_each, {"engine": "megatron", "pipeline": 2, "zero": 1}, (1, 2, 4))
    first, half, shallow = (assemble(shard for rank in found for shard in rank[i]) for i in range(3))
    live = touched(two_slots(2), MODEL).experts
    for layer in range(MODEL.num_layers):
        for name in (n for n in first if f".layers.{layer}." in n and "understanding" not in n and "optimizer.step" not in n):
            if ".experts." in name:
                moved = (first[name] != half[name]).flatten(1).any(dim=1).nonzero().flatten().tolist()
                assert set(moved) == live[layer], name
            if "balance_bias" not in name:
                assert torch.equal(half[name], shallow[name]) == (layer == 1), name


@pytest.mark.parametrize("bad_rank", [0, 1])
def test_a_loss_that_is_not_finite_moves_nothing_anywhere(ranks, bad_rank) -> None:
    """On the first stage it is the loss of an audio level."""
    assert ranks.run(2, not_finite, {"engine": "megatron", **TWO}, bad_rank) == [(True, False), (True, False)]


@pytest.mark.parametrize(("settings", "words"), [
    ({"pipeline": 2, "virtual_pipeline": 4}, "makes 8 stages, each with a layer of its own, and model.num_layers = 6"),
    ({"virtual_pipeline": 2}, "parallel.virtual_pipeline = 2"),
], ids=str)
def test_refusals(ranks, settings, words) -> None:
    assert all(words in found for found in ranks.run(2, refused, settings, {}))


@pytest.mark.parametrize(("plan", "lengths", "words"), [
    (INTERLEAVED, [64] * 3, "a step of 3 micro-batches per data rank cannot be interleaved"), (TWO, [64, 32], "micro-batches of one shape"),
], ids=str)
def test_refused_steps(ranks, plan, lengths, words) -> None:
    assert all(words in found for found in ranks.run(2, refused_step, plan, lengths))
