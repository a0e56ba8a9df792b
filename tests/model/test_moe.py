"""Routing, grouped experts and load counts."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL

from ernie5.model.elastic import FULL_LAYER, SubLayer
from ernie5.model.experts import Experts, LoopExperts
from ernie5.model.moe import MixtureOfExperts
from ernie5.model.router import Router
from ernie5.sequence import Kind

TEXT = torch.zeros(64, dtype=torch.int64)  # kinds of positions


def moe(**changes) -> MixtureOfExperts:
    layer = MixtureOfExperts(dataclasses.replace(SMALL, **changes))
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return layer


@pytest.mark.parametrize("counts", [[5, 0, 3, 0], [0, 0, 0, 8], [2, 2, 2, 2], [0, 0, 0, 0]])
def test_grouped_product_equals_the_loop(counts: list[int]) -> None:
    grouped = Experts(16, 4, 8)
    for parameter in grouped.parameters():
        torch.nn.init.normal_(parameter)
    loop = LoopExperts(16, 4, 8)
    loop.load_state_dict(grouped.state_dict())
    x = torch.randn(sum(counts), 16)
    results = []
    for experts in (grouped, loop):
        inputs = x.clone().requires_grad_()
        y = experts(inputs, torch.tensor(counts))
        (y * torch.linspace(-1, 1, y.numel()).view_as(y)).sum().backward()
        results.append((y, inputs.grad, experts.up.grad, experts.down.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


def test_layer_is_the_gated_sum_of_chosen_experts() -> None:
    layer, x = moe(num_shared_experts=1), torch.randn(7, 32)
    y, (load, _, _) = layer(x, TEXT[:7], FULL_LAYER)
    routing = layer.router(x, TEXT[:7], FULL_LAYER)
    one = lambda row, e: layer.experts(row[None], torch.bincount(torch.tensor([e]), minlength=4))[0]  # noqa: E731
    for t in range(7):
        expected = sum(g * one(x[t], int(e)) for e, g in zip(routing.experts[t], routing.gates[t], strict=True))
        expected = expected + layer.shared(x[t : t + 1], torch.tensor([1]))[0]
        torch.testing.assert_close(y[t], expected, rtol=1e-4, atol=1e-5)
    assert load[Kind.TEXT].sum() == 14 and load[1:].sum() == 0


def test_padding_is_not_counted() -> None:
    kind = torch.tensor([0, -1, int(Kind.AUDIO_GENERATE), -1])
    _, (load, even, _) = moe()(torch.randn(4, 32), kind, FULL_LAYER)
    assert load.sum() == 4 and load[Kind.AUDIO_GENERATE].sum() == 2
    assert even.tolist() == [1.0] * 4


def test_gates_sum_to_one_and_top_1_keeps_a_gradient() -> None:
    router = Router(SMALL)
    torch.nn.init.normal_(router.weight)
    x = torch.randn(5, 32)
    torch.testing.assert_close(router(x, TEXT[: len(x)], FULL_LAYER).gates.sum(-1), torch.ones(5))
    router(x, TEXT[: len(x)], SubLayer(top_k=1)).gates.sum().backward()
    assert router.weight.grad.abs().sum() > 0


def test_bias_moves_the_choice_and_never_the_gate() -> None:
    router = Router(dataclasses.replace(SMALL, top_k=4))
    torch.nn.init.normal_(router.weight)
    x = torch.randn(5, 32)
    before = router(x, TEXT[: len(x)], FULL_LAYER)
    router.balance_bias += torch.tensor([5.0, 0.0, 0.0, 0.0])
    after = router(x, TEXT[: len(x)], FULL_LAYER)
    assert (after.experts[:, 0] == 0).all()
    for row_before, row_after in zip(zip(*before[:2], strict=True), zip(*after[:2], strict=True), strict=True):
        order_a, order_b = row_before[0].argsort(), row_after[0].argsort()
        torch.testing.assert_close(row_before[1][order_a], row_after[1][order_b])


def test_only_live_experts_are_chosen() -> None:
    router = Router(SMALL)
    torch.nn.init.normal_(router.weight)
    router.balance_bias += torch.tensor([9.0, 0.0, 0.0, 0.0])
    live = SubLayer(live=torch.tensor([False, True, False, True]))
    assert set(router(torch.randn(64, 32), TEXT, live).experts.flatten().tolist()) == {1, 3}


def test_autocast_computes_in_bf16() -> None:
    layer, x = moe(), torch.randn(9, 32)
    y, _ = layer(x, TEXT[:9], FULL_LAYER)
    with torch.autocast("cpu", torch.bfloat16):
        z, _ = layer(x, TEXT[:9], FULL_LAYER)
    assert z.dtype == torch.bfloat16
    torch.testing.assert_close(z.float(), y, rtol=0.1, atol=0.1)
