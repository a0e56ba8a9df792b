"""Megatron's own classes do the work; the traps that raise no error; other routers, rows and sub-models than parity has."""

import dataclasses

import pytest
import torch
from megatron_ranks import (
    all_logits,
    in_bf16,
    refused,
    step_of,
    step_with_ids,
    two_experts_alone,
    what_tensor_ranks_share,
    who_did_it,
    without_a_process_group,
)
from parity import MODEL, check_parity, make_engine
from tiny_world import small_model

from ernie5.parallel.world import World

ALONE = World(0, 1, torch.device("cpu"))
TENSOR = {"engine": "megatron", "tensor": 2}


def test_megatron_did_it(ranks) -> None:
    for found in ranks.run(2, who_did_it):
        assert all(found.values()), [name for name, good in found.items() if not good]


def test_logits_of_a_split_head(ranks) -> None:
    hidden = torch.randn(3, MODEL.dim, generator=torch.Generator().manual_seed(0))
    for logits in ranks.run(2, all_logits):
        torch.testing.assert_close(logits, small_model(MODEL).heads.text(hidden).detach())


def test_tensor_ranks_agree_on_what_both_hold(ranks) -> None:
    """Norms, routers, tables of other modalities, experts: bit for bit, though each has seen its own heads and positions."""
    (marked, first), (_, second) = ranks.run(2, what_tensor_ranks_share)
    assert marked and len(first) > 80 and all(torch.equal(first[name], second[name]) for name in first)


def test_a_rank_without_rows_does_not_hang_the_others(ranks) -> None:
    norms = ranks.run(2, two_experts_alone, {"engine": "megatron", "expert": 2})
    assert norms[0] == norms[1] == pytest.approx(two_experts_alone(ALONE, {}), rel=1e-5)


@pytest.mark.parametrize("plan", [{**TENSOR, "sequence": True, "expert": 2}, {"engine": "megatron", "expert": 2}], ids=str)
def test_sub_models_of_samples(ranks, plan) -> None:
    """Micro-batches of two rows; a layer that one rank runs and another does not."""
    check_parity(ranks.run(2, step_of, plan, MODEL, True), step_of(ALONE, {}, MODEL, True))


VARIANTS = {
    "modality id, shared experts": ({"router": "ernie5.model.router_modality_id:ModalityIdRouter", "num_shared_experts": 1}, {"expert": 2}),
    "isolated experts": ({"router": "ernie5.model.router_isolated:IsolatedRouter", "num_experts": 6}, {"sequence": True}),
    "plain loop, parallel codes": ({"experts": "loop", "codec": "parallel", "num_shared_experts": 1}, {"sequence": True, "expert": 2}),
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_other_models(ranks, variant) -> None:
    changes, plan = VARIANTS[variant]
    model = dataclasses.replace(MODEL, **changes)
    check_parity(ranks.run(2, step_of, TENSOR | plan, model), step_of(ALONE, {}, model))


def test_text_ids_that_tensor_ranks_cannot_share_equally(ranks) -> None:
    check_parity(ranks.run(2, step_with_ids, TENSOR, 65), step_with_ids(ALONE, {}, 65))


def test_bf16(ranks) -> None:
    exact = step_of(ALONE, {}).losses
    for losses, not_float32 in ranks.run(2, in_bf16):
        torch.testing.assert_close(losses, exact, rtol=0.05, atol=0.05)
        assert not_float32 == 0


def test_one_process_that_nobody_launched(ranks) -> None:
    check_parity(ranks.run(1, without_a_process_group), step_of(ALONE, {}))


@pytest.mark.parametrize(("settings", "changes", "words"), [
    ({"tensor": 2}, {"num_heads": 1, "num_kv_heads": 1}, "parallel.tensor = 2 must divide model.num_kv_heads = 1"),
    ({"expert": 2}, {"num_experts": 3}, "parallel.expert = 2 must divide model.num_experts = 3"),
    ({"tensor": 2, "expert_tensor": 2}, {}, "parallel.expert_tensor = 2"),
    ({"zero": 2}, {}, "parallel.zero = 2"),
    ({"sequence": True}, {}, "parallel.tensor = 1"),
], ids=str)
def test_refusals(ranks, settings, changes, words) -> None:
    assert all(words in found for found in ranks.run(2, refused, settings, changes))


def test_the_reference_is_another_engine() -> None:
    assert type(make_engine(ALONE, {}, False)).__name__ == "TorchEngine"
