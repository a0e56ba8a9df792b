"""One sub-model per packed sample: every sample gets what it would get alone under its own sub-model."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, batch, small_model

from ernie5.model.elastic import FULL, SubModel
from ernie5.model.elastic_samples import SubModels

CONFIG = dataclasses.replace(SMALL, num_layers=6, num_experts=8, top_k=4)
WIDE = SubModel(experts=((0, 1, 2, 5, 7),) * 7)
BY_ID = {
    "text": FULL, "mixed": SubModel(keep_layers=(0, 2, 3, 4, 5)), "text_to_image": WIDE, "image_to_text": SubModel(top_k=1),
    "text_to_audio": SubModel((0, 3, 4, 5), ((1, 2, 3, 4),) * 7, 2),
}
ROWS = [["mixed", "text"], ["text_to_image", "image_to_text", "text_to_audio"]]


def test_every_sample_is_run_by_its_own_sub_model() -> None:
    model, packed = small_model(CONFIG), batch(ROWS, length=256)
    with torch.no_grad():
        together = model(packed, SubModels.of(packed, BY_ID))
        text, vision, audio = [], [], []
        for name in (name for row in ROWS for name in row):
            alone = model(batch([[name]], length=256), BY_ID[name])
            text.append(alone.text)
            vision.append(alone.vision)
            audio.append(alone.audio[2])
    for found, parts in ((together.text, text), (together.vision, vision), (together.audio[2], audio)):
        torch.testing.assert_close(found, torch.cat(parts), rtol=1e-5, atol=1e-5)


def test_loads_are_those_of_the_samples_alone() -> None:
    model, packed = small_model(CONFIG), batch(ROWS, length=256)
    together = model(packed, SubModels.of(packed, BY_ID))
    load, even = torch.zeros(7, 7, 8), torch.zeros(7, 8, dtype=torch.float64)
    for name in (name for row in ROWS for name in row):
        alone = model(batch([[name]], length=256), BY_ID[name])
        load[list(alone.layers)] += alone.load
        even[list(alone.layers)] += alone.even
    assert together.layers == tuple(range(7)) and torch.equal(together.load.float(), load)
    torch.testing.assert_close(together.even, even)


def test_the_same_sub_model_for_all_is_that_sub_model() -> None:
    model, packed = small_model(CONFIG), batch(ROWS, length=256)
    for submodel in (FULL, *BY_ID.values()):
        each = model(packed, SubModels.of(packed, dict.fromkeys(BY_ID, submodel)))
        torch.testing.assert_close(each.text, model(packed, submodel).text, rtol=1e-5, atol=1e-5)
        assert each.layers == model(packed, submodel).layers


def test_a_layer_that_no_sample_keeps_does_not_run() -> None:
    model, packed = small_model(CONFIG), batch([["mixed"], ["mixed"]], length=256)
    with torch.no_grad():
        for parameter in model.layers[1].parameters():
            parameter.fill_(torch.nan)
    assert torch.isfinite(model(packed, SubModels.of(packed, BY_ID)).text).all()


def test_an_unknown_sample_is_an_error() -> None:
    with pytest.raises(KeyError):
        SubModels.of(batch([["video_to_text"]]), BY_ID)
