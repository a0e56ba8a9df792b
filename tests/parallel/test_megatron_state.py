"""The state of the Megatron engine: it goes on bit for bit, moves between plans, and a step that is not finite touches nothing."""

import pytest
import torch
from megatron_ranks import after_each, losses_from, not_finite, refused, resumed
from parity import MODEL, alone, train, two_slots, whole
from tiny_world import small_model

from ernie5.model.elastic import touched
from ernie5.parallel.shards import assemble

EVERYTHING = {"engine": "megatron", "tensor": 2, "sequence": True, "expert": 2, "zero": 1}


@pytest.mark.parametrize("plan", [EVERYTHING, {"engine": "megatron", "tensor": 2, "expert": 2}], ids=["everything", "tensor and expert"])
def test_a_resumed_run_is_the_uninterrupted_one(ranks, plan) -> None:
    found = ranks.run(2, resumed, plan)
    went_on, resumed_ = whole([a for a, _ in found]), whole([b for _, b in found])
    assert went_on.keys() == resumed_.keys() and all(torch.equal(went_on[name], resumed_[name]) for name in went_on)
    for a, b in found:
        assert torch.equal(a.losses, b.losses) and a.norms == b.norms


@pytest.fixture(scope="module")
def saved(references) -> dict[str, torch.Tensor]:
    """The state of one process after five steps."""
    return whole([references[False]])


@pytest.fixture(scope="module")
def expected(saved) -> torch.Tensor:
    """The losses of the next batch from it."""
    return alone(steps=1, start=saved).losses


@pytest.mark.parametrize("plan", [{"expert": 2}, {"tensor": 2, "sequence": True, "expert": 2, "zero": 1}], ids=str)
def test_a_state_moves_between_plans(ranks, saved, expected, plan) -> None:
    """From one process to a plan, and back: what is handed out is what was taken in, to the last bit, and predicts the same."""
    found = ranks.run(2, losses_from, {"engine": "megatron", **plan}, saved)
    back = assemble(shard for _, shards in found for shard in shards)
    assert back.keys() == saved.keys() and all(torch.equal(back[name], saved[name]) for name in saved)
    for losses, _ in found:
        torch.testing.assert_close(losses, expected, rtol=1e-6, atol=1e-6)


def test_a_trained_plan_is_read_by_one_process(ranks) -> None:
    """Saved under two tensor ranks, read alone; no expert still holds its initial value."""
    trained = ranks.run(2, train, {"engine": "megatron", "tensor": 2}, False, 2)
    state = whole(trained)
    again = ranks.run(2, losses_from, {"engine": "megatron", "tensor": 2}, state)
    torch.testing.assert_close(alone(steps=1, start=state).losses, again[0][0], rtol=1e-6, atol=1e-6)
    initial = small_model(MODEL).state_dict()
    experts = [name for name in initial if ".experts." in name]
    assert experts and not any(torch.equal(a, b) for name in experts for a, b in zip(state[f"model.{name}"], initial[name], strict=True))


def test_a_state_of_another_model_is_refused(ranks, saved) -> None:
    for changed, words in [({"model.strange": torch.zeros(1)}, "holds model.strange, which this model lacks"),
                           ({"optimizer.exp_avg.strange.b": torch.zeros(1)}, "holds optimizer.exp_avg.strange.b, which"),
                           ({"model.norm.weight": torch.zeros(3)}, "norm.weight has the shape (32,)")]:
        assert words in ranks.run(1, refused, {}, {}, {**saved, **changed})[0]


def test_what_a_step_left_out_stays_bit_for_bit(ranks) -> None:
    """Experts on two ranks, their rows and moments in flat pieces on two more. Step 2 runs half of the experts, step 4 not layer 1."""
    found = ranks.run(4, after_each, {"engine": "megatron", "tensor": 2, "expert": 2, "zero": 1}, (1, 2, 4))
    first, half, shallow = (assemble(shard for rank in found for shard in rank[i]) for i in range(3))
    live = touched(two_slots(2), MODEL).experts
    assert all(len(experts) == 2 for experts in live) and not touched(two_slots(4), MODEL).experts[1]
    for name in (n for n in first if "layers." in n and "understanding" not in n and "optimizer.step" not in n):
        layer = int(name.split("layers.")[1].split(".")[0])
        if ".experts." in name or "router.weight" in name:
            moved = (first[name] != half[name]).flatten(1).any(dim=1).nonzero().flatten().tolist()
            assert set(moved) == live[layer], name
        if "balance_bias" not in name:
            assert torch.equal(half[name], shallow[name]) == (layer == 1), name


@pytest.mark.parametrize(("plan", "bad_rank"), [({"tensor": 2}, 1), ({"expert": 2, "zero": 1}, 0)], ids=str)
def test_a_loss_that_is_not_finite_moves_nothing_anywhere(ranks, plan, bad_rank) -> None:
    assert ranks.run(2, not_finite, {"engine": "megatron", **plan}, bad_rank) == [(True, False), (True, False)]
