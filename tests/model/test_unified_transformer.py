"""The whole backbone: what it returns, what it may see, what gets a gradient."""

import dataclasses

import pytest
import torch
from tiny_world import SMALL, VOCABULARY, WIDTHS, batch, packed_sample, small_model

from ernie5.data_pipelines.collate import collate
from ernie5.model.elastic import FULL, SubModel
from ernie5.model.router_balance import RouterBalance
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss

ROWS = [["text", "text_to_image", "image_to_text"], ["text_to_video", "video_to_text"], ["mixed", "text_to_audio", "audio_to_text"]]


def losses(model, packed, counts=None):
    return next_group_loss(model(packed), model.heads, packed, counts or TargetCounts.of(packed), Weights())


def test_shapes() -> None:
    packed, model = batch(ROWS), small_model()
    hidden = model(packed)
    assert hidden.text.shape == (len(packed.text_target), 32)
    assert hidden.vision.shape == (len(packed.vision_target), 32)
    assert [h.shape for h in hidden.audio] == [(len(packed.audio_target), 32)] * 3
    logits = model.logits(hidden)
    assert logits["text"].shape[-1] == VOCABULARY.text and logits["vision"].shape[-1] == VOCABULARY.bits
    assert logits["audio"].shape[1:] == (3, VOCABULARY.codebook_size + 1)
    assert hidden.load.shape == (SMALL.num_layers + 1, 7, SMALL.num_experts)
    assert hidden.load[0].sum() == packed.num_tokens * SMALL.top_k


def test_full_submodel_is_no_argument() -> None:
    packed, model = batch(ROWS), small_model()
    everything = SubModel(tuple(range(SMALL.num_layers)), (tuple(range(SMALL.num_experts)),) * 5, SMALL.top_k)
    for submodel in (FULL, everything):
        assert torch.equal(model(packed).text, model(packed, submodel).text)


def test_skipped_layers_do_not_run() -> None:
    packed, model = batch(ROWS), small_model(dataclasses.replace(SMALL, num_layers=5))
    submodel = SubModel(keep_layers=(0, 2, 3, 4))
    expected = model(packed, submodel).text
    with torch.no_grad():
        for parameter in model.layers[1].parameters():
            parameter.fill_(torch.nan)
    assert torch.equal(model(packed, submodel).text, expected)
    assert model(packed, submodel).layers == (0, 2, 3, 4, 5)


@pytest.mark.parametrize("bad", [SubModel(keep_layers=(1, 2, 3)), SubModel(experts=()), SubModel(experts=((9,),) * 5), SubModel(top_k=3),
                                 SubModel(experts=((0, 1),) * 4), SubModel(experts=((0, 1),) * 4 + ((0,),)), SubModel(experts=((1,),) * 5)])
def test_impossible_submodels_are_named(bad: SubModel) -> None:
    with pytest.raises(ValueError, match="SubModel"):
        bad.check(SMALL, num_codebooks=3)


def test_too_few_layers_for_the_codebooks() -> None:
    with pytest.raises(ValueError, match="model.num_layers = 2"):
        small_model(dataclasses.replace(SMALL, num_layers=2))


def test_packed_loss_is_the_sum_of_separate_losses() -> None:
    model = small_model()
    names = ["text", "text_to_image", "image_to_text", "text_to_video", "video_to_text", "mixed", "text_to_audio", "audio_to_text"]
    packed = collate([[packed_sample(n) for n in names]], 600, WIDTHS)
    counts = TargetCounts.of(packed)
    together = losses(model, packed, counts)
    apart = [losses(model, batch([[n]]), counts) for n in names]
    for name in ("total", "text", "multi_token", "vision", "audio"):
        torch.testing.assert_close(getattr(together, name), sum(getattr(x, name) for x in apart), rtol=1e-5, atol=1e-5)


def test_no_position_sees_another_sample_or_a_later_group() -> None:
    model = small_model().eval()
    first, second = packed_sample("mixed"), packed_sample("text_to_video", seed=1)
    packed = collate([[first, second]], 256, WIDTHS)
    border = len(first)
    base = _stream(model, packed)
    for change in (0, border - 1, border, border + 20):
        kinds = {"text": (packed.text_at == change), "vision": (packed.vision_at == change), "audio": (packed.audio_at == change)}
        name = next((n for n, hit in kinds.items() if bool(hit.any())), None)
        if name is None:
            continue
        value = getattr(packed, name).clone()
        value[kinds[name]] = value[kinds[name]] + 1
        moved = _stream(model, dataclasses.replace(packed, **{name: value}))
        changed = (moved != base).any(-1)[0]
        same = packed.sample[0] == packed.sample[0, change]
        later = packed.group[0] >= packed.group[0, change]
        assert changed.any()
        assert not (changed & ~(same & later)).any(), f"a change at {change} reached positions it must not reach"


def _stream(model, packed) -> torch.Tensor:
    from ernie5.model.attention_mask import Where
    from ernie5.model.codec_layers import TeacherForcing

    with torch.no_grad():
        mask = model.mask(Where.of(packed), Where.of(packed))
        return model.trunk(packed, mask, TeacherForcing(packed.audio_target))[0]


def test_text_alone_still_reaches_every_parameter() -> None:
    """Absent modalities run on empty tensors: gradients are zero, not missing (no hang, no stale gradient)."""
    model = small_model()
    losses(model, batch([["text"]])).total.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert missing == []


def test_no_dead_weight_after_fifty_steps() -> None:
    """Every parameter moves and every expert of every layer gets tokens."""
    model = small_model(random_heads=False)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    balance = RouterBalance(model, speed=1e-2)
    reached = {name: False for name, _ in model.named_parameters()}
    load = torch.zeros(SMALL.num_layers + 1, SMALL.num_experts)
    for step in range(50):
        packed = batch(ROWS, seed=step)
        hidden = model(packed)
        next_group_loss(hidden, model.heads, packed, TargetCounts.of(packed), Weights()).total.backward()
        for name, parameter in model.named_parameters():
            reached[name] |= bool(parameter.grad.abs().sum() > 0)
        optimizer.step()
        optimizer.zero_grad()
        load += hidden.load.sum(1)
        balance.step(hidden.load.sum(1) - hidden.even)
    assert [name for name, hit in reached.items() if not hit] == []
    assert (load > 0).all()
