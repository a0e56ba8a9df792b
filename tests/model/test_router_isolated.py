"""Isolated experts: nobody leaves its pool, pools balance by themselves, sub-models keep their pools."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL_LAYER, SubLayer, SubModel
from ernie5.model.extract import extract
from ernie5.model.router_balance import RouterBalance
from ernie5.model.router_isolated import IsolatedRouter, pool_sizes
from ernie5.sequence import Kind

ISOLATED = dataclasses.replace(SMALL, num_experts=9, router="ernie5.model.router_isolated:IsolatedRouter")
POOLS = {Kind.TEXT: {0, 1, 2}, Kind.AUDIO_UNDERSTAND: {6, 7, 8}, Kind.AUDIO_GENERATE: {6, 7, 8}}
VISION = {3, 4, 5}
ROWS = [["text", "text_to_image", "image_to_text"], ["text_to_video", "video_to_text"], ["mixed", "text_to_audio", "audio_to_text"]]


def router(**changes) -> IsolatedRouter:
    made = IsolatedRouter(dataclasses.replace(ISOLATED, **changes))
    torch.nn.init.normal_(made.weight)
    return made


def kinds(num: int) -> torch.Tensor:
    """All kinds, and padding."""
    return torch.arange(num) % (len(Kind) + 1) - 1


@pytest.mark.parametrize(("num", "sizes"), [(24, (8, 8, 8)), (16, (5, 6, 5)), (17, (5, 7, 5)), (4, (1, 2, 1))])
def test_pools_are_thirds_and_vision_takes_the_rest(num: int, sizes: tuple[int, ...]) -> None:
    assert pool_sizes(num) == sizes
    assert tuple(torch.bincount(router(num_experts=num, top_k=1).pool).tolist()) == sizes


def test_too_few_experts_are_named_with_what_works() -> None:
    with pytest.raises(ValueError, match=r"model.num_experts = 8 .*model.top_k = 3; use model.num_experts >= 9 or model.top_k <= 2"):
        router(num_experts=8, top_k=3)
    router(num_experts=9, top_k=3)
    router(num_experts=8, top_k=2)
    with pytest.raises(ValueError, match="use model.num_experts >= 3$"):
        router(num_experts=2, top_k=1)


def test_nobody_leaves_its_pool() -> None:
    kind = kinds(400)
    experts = router()(torch.randn(400, 32), kind, FULL_LAYER).experts
    for k in Kind:
        assert set(experts[kind == k].flatten().tolist()) == POOLS.get(k, VISION)
    assert set(experts[kind < 0].flatten().tolist()) == set(range(9))


def test_only_live_experts_of_the_pool_are_chosen() -> None:
    kind, x = kinds(80), torch.randn(80, 32)
    live = torch.tensor([0, 1, 1, 1, 0, 1, 0, 1, 1], dtype=torch.bool)
    for sub in (SubLayer(live), SubLayer(live.expand(80, -1))):
        experts = router()(x, kind, sub).experts
        assert set(experts[kind == Kind.TEXT].flatten().tolist()) == {1, 2}
        assert set(experts[kind == Kind.VIDEO_GENERATE].flatten().tolist()) == {3, 5}


def test_a_sub_model_that_leaves_a_pool_too_small_is_refused() -> None:
    kind, x = kinds(80), torch.randn(80, 32)
    live = torch.tensor([1, 1, 1, 1, 1, 1, 0, 0, 1], dtype=torch.bool)
    with pytest.raises(ValueError, match="keeps 1 of the audio experts.*elastic.expert_blocks = 3"):
        router()(x, kind, SubLayer(live))
    assert router()(x, kind, SubLayer(live, top_k=1)).experts.shape == (80, 1)
    used = torch.where((kind == Kind.AUDIO_GENERATE) | (kind == Kind.AUDIO_UNDERSTAND), 1, 9)
    routing = router()(x, kind, SubLayer(live, None, used))
    assert (routing.experts[kind == Kind.AUDIO_GENERATE][:, 0] == 8).all() and (routing.gates[kind == Kind.AUDIO_GENERATE][:, 1] == 0).all()
    no_audio = kind.masked_fill(used == 1, int(Kind.TEXT))
    assert router()(x, no_audio, SubLayer(live)).experts.shape == (80, 2)


def test_balance_evens_out_every_pool() -> None:
    """Loss-free balance as it is, on a step where the modalities have very different shares."""
    model = small_model(ISOLATED)
    moe = model.layers[0].moe
    kind = torch.tensor([Kind.TEXT] * 700 + [Kind.IMAGE_GENERATE] * 250 + [Kind.AUDIO_GENERATE] * 90 + [-1] * 40)
    x = torch.randn(len(kind), 32) + 0.5
    with torch.no_grad():
        moe.router.weight += 0.1 * torch.tensor([1.0, 0, 0, 0, 1, 0, 0, 0, 1])[:, None]  # one favourite in each pool
    balance = RouterBalance(model, speed=0.02)

    def load() -> tuple[torch.Tensor, torch.Tensor]:
        routed = moe.routed(moe.router(x, kind, FULL_LAYER), kind)
        return routed.load.sum(dim=0).double(), routed.even

    def skew() -> torch.Tensor:
        pools = load()[0].view(3, 3)
        return pools.amax(dim=1) / pools.mean(dim=1)

    before, (_, even) = skew(), load()
    torch.testing.assert_close(even, torch.tensor([1400, 500, 180]).repeat_interleave(3).double() / 3)
    for _ in range(100):
        counts, even = load()
        balance.step(torch.nn.functional.pad((counts - even)[None], (0, 0, 0, 4)))
    assert (before > 1.3).all() and (skew() < 1.1).all()


def test_in_the_model_and_in_a_model_cut_out_of_it() -> None:
    packed, model = batch(ROWS), small_model(ISOLATED)
    hidden = model(packed)
    for kind in Kind:
        used = set(hidden.load[:, kind].sum(dim=0).nonzero().flatten().tolist())
        assert used and used <= POOLS.get(kind, VISION)
    submodel = SubModel(experts=((0, 2, 3, 7, 8),) * 5, top_k=1)  # 2, 1, 2 where a new model of five would have 1, 3, 1
    small = extract(model, submodel)
    torch.testing.assert_close(small(packed).text, model(packed, submodel).text, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="hold 3, 3, 0 text, vision and audio experts"):
        extract(model, SubModel(experts=((0, 1, 2, 3, 4, 5),) * 5, top_k=1))
