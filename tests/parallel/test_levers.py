"""Memory levers on one process: a step computes what it computes without them, and keeps less."""

import pytest
import torch
from parity import LENGTH, MODEL, make_engine, plan_of, two_slots
from tiny_world import batch, small_model
from torch.autograd.graph import saved_tensors_hooks

from ernie5.model.elastic import FULL, Elastic
from ernie5.model.elastic_samples import SubModels
from ernie5.model.layer import UnifiedLayer
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.levers import apply_levers, is_weight
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.world import World

PACKED = batch([["mixed", "text"], ["text_to_video"]], length=LENGTH)
ONE = World(0, 1, torch.device("cpu"))
SUBMODELS: dict[str, Elastic] = {
    "full": FULL, "sparse": two_slots(0)[1],
    "by sample": SubModels.of(PACKED, {sample: two_slots(i)[0] for i, sample in enumerate(sum(PACKED.sample_ids, ()))}),
}
EXACT = {
    "full": MemoryConfig("full"), "selective": MemoryConfig("selective"), "offload": MemoryConfig(offload=("activations",)),
    "full, offload": MemoryConfig("full", ("activations",)),
}
CLOSE = {
    "chunks": MemoryConfig(loss_chunk=7), "pieces": MemoryConfig(expert_rows=100),
    "selective pieces": MemoryConfig("selective", expert_rows=100), "all": MemoryConfig("full", ("activations",), 7, 100),
}


def levered(memory: MemoryConfig) -> UnifiedTransformer:
    model = small_model(MODEL)
    apply_levers(model, memory)
    return model


def one_pass(model: UnifiedTransformer, submodel: Elastic, bf16: bool = False) -> dict[str, torch.Tensor]:
    """Losses, router counts and gradients."""
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        hidden = model(PACKED, submodel)
        losses = next_group_loss(hidden, model.heads, PACKED, TargetCounts.of(PACKED), Weights())
    losses.total.backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    return {"losses": losses.detached(), "load": hidden.load, **gradients}


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")  # torch: a norm of bf16 rows by an fp32 weight is not fused
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("submodel", SUBMODELS.values(), ids=SUBMODELS)
@pytest.mark.parametrize("memory", EXACT.values(), ids=EXACT)
def test_recompute_and_offload_change_no_bit(memory: MemoryConfig, submodel: Elastic, bf16: bool) -> None:
    found, expected = one_pass(levered(memory), submodel, bf16), one_pass(small_model(MODEL), submodel, bf16)
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("bf16", [False, True], ids=["fp32", "bf16"])
@pytest.mark.parametrize("memory", CLOSE.values(), ids=CLOSE)
def test_chunks_and_pieces_change_the_order_of_sums(memory: MemoryConfig, bf16: bool) -> None:
    found, expected = one_pass(levered(memory), two_slots(0)[1], bf16), one_pass(small_model(MODEL), two_slots(0)[1], bf16)
    assert found.keys() == expected.keys() and torch.equal(found.pop("load"), expected.pop("load"))
    for name, tensor in expected.items():
        error = (found[name] - tensor).norm() / tensor.norm().clamp(min=1e-6)
        assert error < (3e-2 if bf16 else 1e-5), f"{name}: {error}"


def saved_bytes(memory: MemoryConfig) -> int:
    """What autograd keeps of a forward pass besides weights."""
    model, kept = levered(memory), {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        if not is_weight(x):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x.detach()

    with saved_tensors_hooks(pack, lambda x: x):
        hidden = model(PACKED)
        alive = next_group_loss(hidden, model.heads, PACKED, TargetCounts.of(PACKED), Weights()).total
    assert alive.requires_grad
    return sum(kept.values())


def test_less_is_kept() -> None:
    none, selective, full = (saved_bytes(MemoryConfig(recompute)) for recompute in ("none", "selective", "full"))
    assert full < 0.1 * none and selective < 0.9 * none
    assert saved_bytes(MemoryConfig(expert_rows=100)) < 0.9 * none


def test_without_gradients_nothing_runs_again_and_nothing_changes() -> None:
    with torch.no_grad():
        for memory in (*EXACT.values(), *CLOSE.values()):
            torch.testing.assert_close(levered(memory)(PACKED).text, small_model(MODEL)(PACKED).text, rtol=1e-5, atol=1e-5)


def test_names_stay() -> None:
    model = levered(CLOSE["all"])
    assert list(model.state_dict()) == list(small_model(MODEL).state_dict())
    assert all(isinstance(layer, UnifiedLayer) for layer in model.layers)


def test_weights_are_not_moved_to_the_host() -> None:
    """Neither themselves nor as the views that products save."""
    weight, saved = torch.nn.Parameter(torch.ones(4, 8, 8)), []
    with saved_tensors_hooks(lambda x: saved.append(is_weight(x)) or x.detach(), lambda x: x):
        x = torch.ones(8, 8, requires_grad=True)
        torch.nn.functional.grouped_mm(torch.nn.functional.linear(x, weight[0]), weight, offs=torch.tensor([2, 4, 6, 8], dtype=torch.int32))
    assert sorted(saved) == [False, False, False, True, True], "x, offs and the first product are none; weight[0] and weight are"


@pytest.mark.parametrize(("plan", "elastic", "words"), [
    ({"engine": "megatron"}, False, r"offload = \[optimizer\] is nothing that parallel.engine = megatron can do; use parallel.zero = 1"),
    ({"engine": "deepspeed", "zero": 2}, True, r"changes the losses where a step leaves layers or experts out \(elastic\)"),
    ({"engine": "deepspeed"}, False, r"offload = \[optimizer\] of parallel.engine = deepspeed needs parallel.zero = 1, 2 or 3"),
], ids=["megatron", "elastic", "zero 0"])
def test_an_engine_that_would_not_move_its_moments_rightly_is_refused(plan: dict, elastic: bool, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make_engine(ONE, {**plan, "memory": {"offload": ["optimizer"]}}, elastic)
    assert plan_of(plan).memory == MemoryConfig()
