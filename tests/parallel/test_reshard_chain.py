"""One run that changes its plan at every stop: each hands its state to the next, and the losses are those of a run that never changed."""

import pytest
import torch
from parity import alone as alone_
from parity import make_engine, run_steps, whole

from ernie5.parallel.shards import InMemory, Shard, assemble

MEGATRON = {"engine": "megatron"}
CHAIN = (  # plan and number of processes of one step each
    (2, MEGATRON | {"tensor": 2}),
    (2, MEGATRON | {"expert": 2}),
    (1, {}),
    (2, {"engine": "deepspeed", "zero": 3, "deepspeed": {"zero_optimization": {"stage3_param_persistence_threshold": 0}}}),
    (2, MEGATRON | {"pipeline": 2}),
)


def copies(engine) -> list[Shard]:
    return [Shard(s.name, s.shape, s.at, s.data.clone()) for s in engine.shards()]


def one_stop(world, plan: dict, start: dict[str, torch.Tensor], step: int) -> tuple[list[Shard], torch.Tensor, list[Shard]]:
    """What this rank holds after loading, the losses of one step from there, and what it holds then."""
    engine = make_engine(world, plan, elastic=False)
    engine.load(InMemory(start))
    loaded = copies(engine)
    losses, _, _ = run_steps(engine, range(step, step + 1), elastic=False)
    return loaded, losses, copies(engine)


@pytest.mark.slow
def test_state_goes_through_all_plans(ranks, references) -> None:
    """After gathering, what a plan loaded is bit for bit what the one before has saved; the loss of the same batch agrees to 1e-6."""
    state = whole([alone_(False, 1)])
    for step, (size, plan) in enumerate(CHAIN, start=1):
        alone = alone_(False, 1, state, step)
        stops = ranks.run(size, one_stop, plan, state, step)
        loaded = assemble(shard for found, _, _ in stops for shard in found)
        assert loaded.keys() == state.keys() and not [name for name in state if not torch.equal(loaded[name], state[name])]
        torch.testing.assert_close(stops[0][1], alone.losses, rtol=1e-6, atol=1e-6)
        state = assemble(shard for _, _, after in stops for shard in after)
        torch.testing.assert_close(state["model.norm.weight"], whole([alone])["model.norm.weight"], rtol=1e-4, atol=1e-6)
    assert state.keys() == whole([references[False]]).keys()
