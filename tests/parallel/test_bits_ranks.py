"""Every engine switches bits on as one process does: nothing is put anywhere else, only the batches become wider."""

import pytest
from parity import MODEL, Trained, alone, check_parity, train, whole

GROWS = (3, 3, 8)  # bits that are on, by step
NEW = {"embeddings.vision.weight": 1, "heads.vision.weight": 0, "heads.vision.bias": 0}
PLANS = {
    "fsdp": {"zero": 3}, "deepspeed": {"engine": "deepspeed", "zero": 2}, "tensor": {"engine": "megatron", "tensor": 2},
    "pipeline": {"engine": "megatron", "pipeline": 2},
}


@pytest.fixture(scope="module")
def reference() -> Trained:
    return alone(steps=4, bits=GROWS)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_two_ranks_do_what_one_does_across_a_switch(ranks, reference, plan) -> None:
    """Two steps of 3 bits, two of 8."""
    check_parity(ranks.run(2, train, plan, False, 4, None, 0, MODEL, GROWS), reference)


def test_what_is_off_stays_zero_on_every_rank(ranks) -> None:
    """Weights and moments of the bits that are off, whole and put together from slices."""
    state = whole(ranks.run(2, train, PLANS["fsdp"], False, 2, None, 0, MODEL, GROWS))
    new = {key: dim for name, dim in NEW.items() for key, tensor in state.items() if key.endswith(f".{name}") and tensor.ndim}
    assert len(new) == 9 and not any(state[key].narrow(dim, 3, 5).count_nonzero() for key, dim in new.items())
    assert all(state[key].narrow(dim, 0, 3).count_nonzero() for key, dim in new.items())
