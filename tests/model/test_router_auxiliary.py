"""The auxiliary balance loss: its formula, what it counts, that it balances, and how it enters the objective."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL_LAYER, SubLayer, SubModel
from ernie5.model.router import Routing
from ernie5.model.router_auxiliary import AuxiliaryLossRouter, balance_loss
from ernie5.objectives.modality_weights import PosteriorWeights, Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss

AUXILIARY = dataclasses.replace(SMALL, router="ernie5.model.router_auxiliary:AuxiliaryLossRouter")
WITHOUT, WITH = Weights(router=0.0), Weights(router=0.5)


def router(**changes) -> AuxiliaryLossRouter:
    made = AuxiliaryLossRouter(dataclasses.replace(AUXILIARY, **changes))
    torch.nn.init.normal_(made.weight, std=0.3)
    return made


def by_hand(scores: torch.Tensor, experts: torch.Tensor, allowed: list[int]) -> float:
    """N * E * sum of f P, in loops."""
    scores = scores.detach()
    tokens, share, mean = len(experts), [0.0] * scores.shape[1], [0.0] * scores.shape[1]
    for t in range(tokens):
        for e in experts[t].tolist():
            share[e] += 1 / experts.numel()
        for e in allowed:
            mean[e] += float(scores[t, e] / scores[t, allowed].sum()) / tokens
    return tokens * len(allowed) * sum(a * b for a, b in zip(share, mean, strict=True))


def test_formula() -> None:
    r, x, kind = router(), torch.randn(50, 32), torch.zeros(50, dtype=torch.int64)
    routing = r(x, kind, FULL_LAYER)
    assert routing.loss.item() == pytest.approx(by_hand(r.scores(x, kind), routing.experts, [0, 1, 2, 3]), rel=1e-5)
    live = SubLayer(torch.tensor([True, False, True, True]))
    routing = r(x, kind, live)
    assert routing.loss.item() == pytest.approx(by_hand(r.scores(x, kind), routing.experts, [0, 2, 3]), rel=1e-5)


def test_it_is_one_per_token_when_even_and_the_number_of_experts_when_all_choose_one() -> None:
    kind, gates = torch.zeros(8, dtype=torch.int64), torch.ones(8, 1)
    even = balance_loss(torch.full((8, 4), 0.3), Routing(torch.arange(8)[:, None] % 4, gates), kind)
    one = balance_loss(torch.tensor([1.0, 0, 0, 0]).expand(8, 4), Routing(torch.zeros(8, 1, dtype=torch.int64), gates), kind)
    torch.testing.assert_close((even, one), (torch.tensor(8.0), torch.tensor(32.0)))


def test_padding_and_choices_that_do_not_count_are_left_out() -> None:
    r, x = router(), torch.randn(60, 32)
    kind = torch.where(torch.arange(60) < 40, 0, -1)
    torch.testing.assert_close(r(x, kind, FULL_LAYER).loss, r(x[:40], kind[:40], FULL_LAYER).loss)
    assert r(x, torch.full((60,), -1), FULL_LAYER).loss == 0
    single = SubLayer(None, None, torch.ones(60, dtype=torch.int64))
    torch.testing.assert_close(r(x, kind, single).loss, r(x, kind, SubLayer(top_k=1)).loss)
    live, other = torch.tensor([True, True, True, False]), torch.ones(4, dtype=torch.bool)
    torch.testing.assert_close(r(x, kind, SubLayer(live)).loss, r(x, kind, SubLayer(live.expand(60, -1))).loss)
    mixed = torch.where(torch.arange(60)[:, None] % 2 == 0, live, other)
    assert torch.isfinite(r(x, kind, SubLayer(mixed)).loss)


def test_its_gradient_evens_out_a_skewed_router() -> None:
    r, kind = router(), torch.zeros(512, dtype=torch.int64)
    x = torch.randn(512, 32) + 0.5
    with torch.no_grad():
        r.weight += 0.2 * torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None]

    def skew() -> float:
        counts = torch.bincount(r(x, kind, FULL_LAYER).experts.flatten(), minlength=4).float()
        return float(counts.max() / counts.mean())

    before, optimizer = skew(), torch.optim.SGD(r.parameters(), lr=0.3)
    for _ in range(60):
        optimizer.zero_grad()
        (r(x, kind, FULL_LAYER).loss / 512).backward()
        optimizer.step()
    assert before > 1.5 and skew() < 1.15 and r.balance_bias.abs().sum() == 0


def test_the_objective_adds_its_weighted_mean_over_tokens() -> None:
    packed, model = batch([["mixed", "text"], ["text_to_video", "text_to_audio"]], length=256), small_model(AUXILIARY)
    hidden, counts = model(packed), TargetCounts.of(packed)
    assert counts.tokens == packed.num_tokens < packed.sample.numel()
    per_token = hidden.router_loss.item() / counts.tokens  # of five layers, 1 each when even
    assert 5 * 0.9 < per_token < 5 * SMALL.num_experts
    bare, full = (next_group_loss(hidden, model.heads, packed, counts, w) for w in (WITHOUT, WITH))
    torch.testing.assert_close(full.total - bare.total, torch.tensor(0.5 * per_token))
    assert torch.equal(full.detached()[1:], bare.detached()[1:])
    losses = {"text": 1.0, "multi_token": 1.0, "vision": 1.0, "audio": 1.0}
    assert WITH.total(losses) == WITHOUT.total(losses)
    rescaled = PosteriorWeights(WITH, means={"text": 2.0, "vision": 0.5, "audio": 4.0}).weights()
    assert rescaled.router == 0.5 and rescaled.audio != 1.0


def test_a_smaller_sub_model_sums_fewer_layers() -> None:
    packed, model = batch([["mixed"]], length=256), small_model(dataclasses.replace(AUXILIARY, num_layers=5))
    full, cut = model(packed).router_loss, model(packed, SubModel(keep_layers=(0, 2, 3, 4))).router_loss
    torch.testing.assert_close(cut / full, torch.tensor(5 / 6), rtol=0.1, atol=0)


def total_gradient(model, batches, counts, weights) -> list[torch.Tensor]:
    model.zero_grad()
    for packed in batches:
        next_group_loss(model(packed), model.heads, packed, counts, weights).total.backward()
    return [layer.moe.router.weight.grad.clone() for layer in model.layers]


def test_this_loss_alone_depends_on_how_a_step_is_cut() -> None:
    """f and P are those of a micro-batch: equal micro-batches give what one batch gives, others do not; without it the cut is nothing."""
    model, first, second = small_model(AUXILIARY), [["mixed"]], [["text_to_video", "text"]]
    same, cut = [batch(first, 256)] * 2, [batch(first, 256), batch(second, 256)]
    twice, both = batch(first * 2, 256), batch(first + second, 256)
    for parts, whole, weights, equal in ((same, twice, WITH, True), (cut, both, WITH, False), (cut, both, WITHOUT, True)):
        counts = TargetCounts.of(parts[0]) + TargetCounts.of(parts[1])
        assert counts == TargetCounts.of(whole)
        one, two = total_gradient(model, [whole], counts, weights), total_gradient(model, parts, counts, weights)
        close = all(torch.allclose(a, b, rtol=1e-3, atol=1e-6) for a, b in zip(one, two, strict=True))
        assert close is equal
