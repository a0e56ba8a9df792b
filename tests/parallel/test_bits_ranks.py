"""Every engine switches bits on as one process does: nothing is put anywhere else, only the batches become wider."""

import pytest
import torch
from parity import MODEL, Trained, alone, check_parity, train, whole

GROWS = (3, 3, 8)  # bits that are on, by step
NEW = {"embeddings.vision.weight": 1, "heads.vision.weight": 0, "heads.vision.bias": 0}
PLANS = {
    "fsdp": {"zero": 3}, "deepspeed": {"engine": "deepspeed", "zero": 2}, "tensor": {"engine": "megatron", "tensor": 2},
    "shared state": {"engine": "megatron", "zero": 1}, "pipeline": {"engine": "megatron", "pipeline": 2},
}


@pytest.fixture(scope="module")
def reference() -> Trained:
    return alone(steps=4, bits=GROWS)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_two_ranks_do_what_one_does_across_a_switch(ranks, reference, plan) -> None:
    """Two steps of 3 bits, two of 8: in one go, and the second half from what one process saved at the switch."""
    before = alone(steps=2, bits=GROWS)
    state = whole([before])
    new = {key: dim for name, dim in NEW.items() for key, tensor in state.items() if key.endswith(f".{name}") and tensor.ndim}
    off = [state[key].narrow(dim, 3, 5) for key, dim in new.items()]
    assert len(off) == 9 and not any(part.count_nonzero() for part in off)
    check_parity(ranks.run(2, train, plan, False, 4, None, 0, MODEL, GROWS), reference)
    later = ranks.run(2, train, plan, False, 2, state, 2, MODEL, GROWS)
    assert all(torch.equal(rank.losses, later[0].losses) for rank in later)
    torch.testing.assert_close(later[0].losses, reference.losses[2:], rtol=1e-4, atol=1e-6)
