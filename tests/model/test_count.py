"""Sizes: what is counted is what `extract` leaves, and the experts that a token does not choose are not active."""

import dataclasses

import pytest
from tiny_world import SMALL, small_model

from ernie5.model.count import count
from ernie5.model.elastic import SubModel
from ernie5.model.extract import extract

CONFIG = dataclasses.replace(SMALL, num_layers=6, num_experts=8, top_k=4)


def test_active_leaves_out_what_was_not_chosen() -> None:
    model = small_model(CONFIG)
    size = count(model, context=64)
    one_expert = sum(p[0].numel() for p in model.layers[0].moe.experts.parameters())
    assert size.total == sum(p.numel() for p in model.parameters())
    assert size.active == size.total - 7 * 4 * one_expert


@pytest.mark.parametrize("submodel", [SubModel(keep_layers=(0, 2, 3, 4, 5)), SubModel(top_k=2), SubModel((0, 3, 4, 5), None, 1)])
def test_a_sub_model_counts_like_its_stand_alone_model(submodel: SubModel) -> None:
    model = small_model(CONFIG)
    layers, _, top_k = submodel.size(CONFIG)
    inside, alone = count(model, 64, layers, top_k), count(extract(model, submodel), 64)
    assert inside.active == alone.active and inside.flops_per_token == pytest.approx(alone.flops_per_token)
