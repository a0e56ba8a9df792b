"""The objective against plain formulas, and the loss contract."""

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from tiny_world import batch, small_model

from ernie5.data_pipelines.group_vision import scale_weights
from ernie5.model.text_head import NEXT_FRAME_OR_END, TextHead
from ernie5.objectives.modality_weights import EqualWeights, PosteriorWeights, Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.objectives.next_scale import next_scale_sum
from ernie5.sequence import Choice
from ernie5.tokenizers.special_tokens import SpecialToken


def test_control_tokens_agree() -> None:
    assert set(NEXT_FRAME_OR_END) == {int(SpecialToken.NEXT_FRAME), int(SpecialToken.EOV)}


def test_restricted_choice_is_a_two_way_softmax() -> None:
    head, hidden, target = TextHead(8, 64), torch.randn(3, 8), torch.tensor([SpecialToken.EOV, SpecialToken.NEXT_FRAME, 40])
    logits = head(hidden)
    choice = torch.tensor([Choice.NEXT_OR_END, Choice.NEXT_OR_END, Choice.ANY])
    loss = (head.nll(hidden, target, choice) * torch.tensor([1.0, 2.0, 0.5])).sum()
    two = logits[:2, list(NEXT_FRAME_OR_END)].log_softmax(-1)
    expected = -(two[0, 1] + 2 * two[1, 0]) + 0.5 * F.cross_entropy(logits[2:], target[2:])
    torch.testing.assert_close(loss, expected)


def test_bits_and_scale_weights() -> None:
    logits, bits = torch.zeros(2, 8), torch.ones(2, 8)
    torch.testing.assert_close(next_scale_sum(logits, bits, torch.tensor([1.0, 3.0])), torch.tensor(4 * math.log(2)))
    weights = scale_weights(((1, 1), (2, 2), (4, 4)))
    assert weights[0] == 2 * weights[1] == 4 * weights[2]
    torch.testing.assert_close(sum(w * n for w, n in zip(weights, (1, 4, 16), strict=True)), 21.0)


def test_fresh_model_is_at_chance() -> None:
    packed, model = batch([["mixed", "text"], ["text_to_video", "text_to_audio"]], length=256), small_model(random_heads=False)
    losses = next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights())
    torch.testing.assert_close(losses.vision.item(), math.log(2))
    torch.testing.assert_close(losses.audio.item(), math.log(33))
    assert abs(losses.text.item() - math.log(64)) < 1.0  # two-way choices are cheaper
    torch.testing.assert_close(losses.multi_token.item(), math.log(64))


def test_gradient_is_the_sum_over_micro_batches() -> None:
    model, whole = small_model(), batch([["mixed"], ["text_to_video", "text"]], length=256)
    parts = [batch([["mixed"]], length=256), batch([["text_to_video", "text"]], length=256)]
    counts = TargetCounts.of(parts[0]) + TargetCounts.of(parts[1])
    gradients = []
    for batches in ([whole], parts):
        model.zero_grad()
        for packed in batches:
            next_group_loss(model(packed), model.heads, packed, counts, Weights()).total.backward()
        gradients.append([p.grad.clone() for p in model.parameters()])
    assert TargetCounts.of(whole) == counts
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_a_router_without_a_loss_of_its_own_adds_nothing() -> None:
    packed, model = batch([["mixed", "text"]], length=256), small_model()
    hidden, counts = model(packed), TargetCounts.of(packed)
    assert hidden.router_loss == 0 and counts.tokens == packed.num_tokens
    one, other = (next_group_loss(hidden, model.heads, packed, counts, Weights(router=w)).total for w in (0.0, 1e9))
    assert torch.equal(one, other)


def test_absent_modalities_cost_nothing() -> None:
    packed, model = batch([["text"]]), small_model()
    losses = next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights())
    assert losses.vision == 0 and losses.audio == 0 and torch.isfinite(losses.total)


def test_multi_token_prediction_can_be_left_out() -> None:
    from tiny_world import SMALL

    packed, model = batch([["text"]]), small_model(replace(SMALL, multi_token=False))
    assert next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights()).multi_token == 0


def test_posterior_weights_bring_losses_together() -> None:
    weights = PosteriorWeights(Weights(), decay=0.5)
    assert weights.weights() == Weights()
    for _ in range(20):
        weights.update({"text": 2.0, "vision": 0.5, "audio": 4.0})
    got = weights.weights()
    assert got.audio < got.text < got.vision <= 4.0
    torch.testing.assert_close(got.text * 2.0, got.audio * 4.0)
    again = PosteriorWeights(Weights(), decay=0.5)
    again.load(weights.state())
    assert again.weights() == got
    assert EqualWeights(Weights(text=2.0)).weights().text == 2.0
