"""Loads become even without an auxiliary loss; excluded experts are left alone."""

import torch
from tiny_world import batch, small_model

from ernie5.model.elastic import FULL_LAYER, SubModel
from ernie5.model.router_balance import RouterBalance


def test_bias_falls_for_overloaded_and_rises_for_idle_experts() -> None:
    model = small_model()
    balance = RouterBalance(model, speed=0.01)
    error = torch.zeros(5, 4, dtype=torch.float64)
    error[1] = torch.tensor([10, 2, 4, 8]) - 6.0
    balance.step(error)
    torch.testing.assert_close(model.layers[1].moe.router.balance_bias, torch.tensor([-0.01, 0.01, 0.01, -0.01]))
    assert model.layers[0].moe.router.balance_bias.abs().sum() == 0
    balance.step(torch.zeros(5, 4, dtype=torch.float64))  # nothing counted: nothing moves
    torch.testing.assert_close(model.layers[1].moe.router.balance_bias, torch.tensor([-0.01, 0.01, 0.01, -0.01]))


def test_excluded_experts_do_not_move() -> None:
    model = small_model()
    hidden = model(batch([["mixed"]], length=256), SubModel(experts=((0, 2),) * 5, top_k=1))
    assert (hidden.load.sum(dim=1) - hidden.even)[:, [1, 3]].abs().max() == 0
    torch.testing.assert_close(hidden.load.sum(dim=(1, 2)).double(), hidden.even.sum(dim=-1))
    RouterBalance(model, speed=0.01).step(hidden.load.sum(dim=1) - hidden.even)
    biases = torch.stack([layer.moe.router.balance_bias for layer in model.layers])
    assert biases[:, [1, 3]].abs().max() == 0 and biases[:, [0, 2]].abs().max() > 0


def test_last_bits_of_a_sum_move_nothing() -> None:
    model = small_model()
    RouterBalance(model, speed=0.01).step(torch.full((5, 4), 1e-11, dtype=torch.float64))
    assert model.layers[0].moe.router.balance_bias.abs().sum() == 0


def test_balancing_evens_out_a_skewed_router() -> None:
    model = small_model()
    router = model.layers[0].moe.router
    x = torch.randn(512, 32) + 0.5
    with torch.no_grad():
        router.weight += torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None] * 0.1  # everybody prefers expert 0
    balance = RouterBalance(model, speed=0.02)

    def chosen() -> torch.Tensor:
        return torch.bincount(router(x, torch.zeros(512, dtype=torch.int64), FULL_LAYER).experts.flatten(), minlength=4)

    def skew() -> float:
        counts = chosen().float()
        return float(counts.max() / counts.mean())

    before = skew()
    for _ in range(100):
        counts = chosen().double()
        balance.step(torch.nn.functional.pad((counts - counts.mean())[None], (0, 0, 0, 4)))
    assert before > 1.4 and skew() < 1.1
