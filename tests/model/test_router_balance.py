"""Loads become even without an auxiliary loss; excluded experts are left alone."""

import torch
from tiny_world import small_model

from ernie5.model.elastic import FULL, SubModel
from ernie5.model.router_balance import RouterBalance


def test_bias_falls_for_overloaded_and_rises_for_idle_experts() -> None:
    model = small_model()
    balance = RouterBalance(model, speed=0.01)
    balance.add(torch.tensor([[10, 2, 4, 8]]), (1,), FULL)
    balance.step()
    torch.testing.assert_close(model.layers[1].moe.router.balance_bias, torch.tensor([-0.01, 0.01, 0.01, -0.01]))
    assert model.layers[0].moe.router.balance_bias.abs().sum() == 0
    balance.step()  # nothing counted: nothing moves
    torch.testing.assert_close(model.layers[1].moe.router.balance_bias, torch.tensor([-0.01, 0.01, 0.01, -0.01]))


def test_excluded_experts_do_not_move() -> None:
    model = small_model()
    balance = RouterBalance(model, speed=0.01)
    balance.add(torch.tensor([[9, 0, 1, 0]]), (0,), SubModel(experts=(0, 2)))
    balance.step()
    torch.testing.assert_close(model.layers[0].moe.router.balance_bias, torch.tensor([-0.01, 0.0, 0.01, 0.0]))


def test_balancing_evens_out_a_skewed_router() -> None:
    model = small_model()
    router = model.layers[0].moe.router
    x = torch.randn(512, 32) + 0.5
    with torch.no_grad():
        router.weight += torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None] * 0.1  # everybody prefers expert 0
    balance = RouterBalance(model, speed=0.02)

    def skew() -> float:
        counts = torch.bincount(router(x, FULL).experts.flatten(), minlength=4).float()
        return float(counts.max() / counts.mean())

    before = skew()
    for _ in range(100):
        balance.add(torch.bincount(router(x, FULL).experts.flatten(), minlength=4)[None], (0,), FULL)
        balance.step()
    assert before > 1.4 and skew() < 1.1
