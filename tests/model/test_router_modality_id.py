"""Routing with a modality id: the plain router at first; then every modality has preferences of its own."""

import dataclasses

import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL_LAYER, SubModel
from ernie5.model.extract import extract
from ernie5.model.router_modality_id import ModalityIdRouter
from ernie5.sequence import Kind
from ernie5.train.optimizer import OptimizerConfig, make_optimizer

WITH_ID = dataclasses.replace(SMALL, router="ernie5.model.router_modality_id:ModalityIdRouter")
ROWS = [["mixed", "text_to_audio", "audio_to_text"], ["text_to_video", "image_to_text"]]


def test_it_begins_as_the_plain_router() -> None:
    packed, plain, model = batch(ROWS), small_model(), small_model(WITH_ID)
    state = model.state_dict()
    tables = [name for name in state if "by_modality" in name]
    assert len(tables) == 4 * (SMALL.num_layers + 1) and all(not state[name].any() for name in tables)
    assert {name for name in state if name not in tables} == plain.state_dict().keys()
    assert torch.equal(model(packed).text, plain(packed).text)


def test_a_preference_moves_the_tokens_of_its_modality() -> None:
    router = ModalityIdRouter(dataclasses.replace(WITH_ID, top_k=1))
    torch.nn.init.normal_(router.weight)
    kind, x = torch.arange(160) % 8 - 1, torch.randn(160, 32)
    before = router(x, kind, FULL_LAYER)
    with torch.no_grad():
        router.by_modality[2][3] = 99.0  # video, expert 3
    after = router(x, kind, FULL_LAYER)
    video = (kind == Kind.VIDEO_UNDERSTAND) | (kind == Kind.VIDEO_GENERATE)
    assert (after.experts[video] == 3).all() and not (before.experts[video] == 3).all()
    assert torch.equal(before.experts[~video], after.experts[~video]) and torch.equal(before.gates[~video], after.gates[~video])
    with torch.no_grad():
        router.by_modality[0][1] = 99.0  # text; padding goes with it, and counts nowhere
    now = router(x, kind, FULL_LAYER).experts
    assert (now[kind <= 0] == 1).all() and torch.equal(now[kind > 0], after.experts[kind > 0])


def test_every_vector_learns_and_none_decays() -> None:
    model = small_model(WITH_ID)
    hidden = model(batch(ROWS))
    (hidden.text.square().sum() + hidden.next_text.square().sum() + hidden.vision.square().sum()).backward()
    vectors = {name: p for name, p in model.named_parameters() if "by_modality" in name}
    backbone = {name: p for name, p in vectors.items() if not name.startswith("multi_token")}
    assert [name for name, p in backbone.items() if not p.grad.any()] == []
    decayed = {id(p) for group in make_optimizer(model, OptimizerConfig()).param_groups if group["weight_decay"] for p in group["params"]}
    assert not decayed & {id(p) for p in vectors.values()}


def test_an_absent_modality_has_a_gradient_of_zeros() -> None:
    model = small_model(WITH_ID)
    model(batch([["text"]])).text.sum().backward()
    grads = [vector.grad for vector in model.layers[0].moe.router.by_modality]
    assert grads[0].any() and all(grad is not None and not grad.any() for grad in grads[1:])


def test_a_model_cut_out_of_it_keeps_its_preferences() -> None:
    packed, model = batch(ROWS), small_model(WITH_ID)
    for layer in model.layers:
        for vector in layer.moe.router.by_modality:
            torch.nn.init.normal_(vector)
    submodel = SubModel(experts=((0, 2, 3), (1, 2, 3), (0, 1, 2), (0, 1, 3), (0, 2, 3)), top_k=2)
    small = extract(model, submodel)
    torch.testing.assert_close(small(packed).text, model(packed, submodel).text, rtol=1e-5, atol=1e-5)


def test_scores_are_fp32_under_autocast() -> None:
    router, x, kind = ModalityIdRouter(WITH_ID), torch.randn(9, 32), torch.zeros(9, dtype=torch.int64)
    torch.nn.init.normal_(router.weight)
    with torch.autocast("cpu", torch.bfloat16):
        scores = router.scores(x.bfloat16(), kind)
    assert scores.dtype == torch.float32 and torch.equal(scores, router.scores(x.bfloat16(), kind))
