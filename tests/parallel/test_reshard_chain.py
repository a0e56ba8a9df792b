"""One run that changes its plan at every stop: each hands its state to the next, and the losses are those of a run that never changed."""

import pytest
import torch
from parity import Trained, alone, train, whole

MEGATRON = {"engine": "megatron"}
CHAIN = (  # plan and number of processes of one step each
    (2, MEGATRON | {"tensor": 2}),
    (2, MEGATRON | {"expert": 2}),
    (1, {}),
    (2, {"engine": "deepspeed", "zero": 3, "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}}),
    (2, MEGATRON | {"pipeline": 2}),
)


@pytest.mark.slow
def test_state_goes_through_all_plans(ranks, references) -> None:
    """After gathering, what a plan loaded is bit for bit what the one before has saved; the loss of the same batch agrees to 1e-6."""
    state: dict[str, torch.Tensor] | None = None
    for step, (size, plan) in enumerate(CHAIN):
        if state is not None:
            untouched: list[Trained] = ranks.run(size, train, plan, False, 0, state, step)
            loaded = whole(untouched)
            assert loaded.keys() == state.keys() and not [name for name in state if not torch.equal(loaded[name], state[name])]
            torch.testing.assert_close(ranks.run(size, train, plan, False, 1, state, step)[0].losses, alone(False, 1, state, step).losses,
                                       rtol=1e-6, atol=1e-6)
        state = whole(ranks.run(size, train, plan, False, 1, state, step))
    reference = whole([references[False]])
    assert state is not None and state.keys() == reference.keys()
    for name, tensor in reference.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=3e-5, msg=lambda text, name=name: f"{name}: {text}")
