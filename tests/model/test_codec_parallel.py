"""Parallel audio heads: all levels read the last layer, no code knows another of its frame, and everything around works."""

import dataclasses
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_world import CODEBOOKS, SMALL, VOCABULARY, WIDTHS, batch, documents, grouping, packed_sample, small_model

from ernie5.data_pipelines.collate import PackedSample, collate
from ernie5.data_pipelines.grouping import Coded
from ernie5.generate.choose import Sampling
from ernie5.generate.session import Session
from ernie5.generate.sound import generate_sound
from ernie5.model.codec_parallel import ParallelCodes
from ernie5.model.count import count
from ernie5.model.elastic import SubModel
from ernie5.model.extract import extract
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.sequence import Modality, Role

PARALLEL = dataclasses.replace(SMALL, codec="parallel")
ROWS = [["text", "text_to_image", "image_to_text"], ["text_to_video", "video_to_text"], ["mixed", "text_to_audio", "audio_to_text"]]


def test_every_level_reads_the_last_layer() -> None:
    model, packed = small_model(PARALLEL), batch([["text_to_audio"]])
    assert isinstance(model.codec, ParallelCodes)
    assert [list(model.codec.levels(i)) for i in range(4)] == [[], [], [], [0, 1, 2]]
    hidden = model(packed)
    assert len(hidden.audio) == CODEBOOKS and all(torch.equal(h, hidden.audio[0]) for h in hidden.audio)


@pytest.mark.parametrize("config", [PARALLEL, SMALL], ids=["parallel", "depthwise"])
def test_a_code_changes_the_others_of_its_frame_only_depth_wise(config) -> None:
    model, packed = small_model(config), batch([["text_to_audio"]])
    changed = packed.audio_target.clone()
    changed[:, 0] = (changed[:, 0] + 1) % VOCABULARY.codebook_size
    with torch.no_grad():
        before, after = (model(dataclasses.replace(packed, audio_target=codes)) for codes in (packed.audio_target, changed))
    assert torch.equal(before.audio[0], after.audio[0])
    for level in (1, 2):
        assert torch.equal(before.audio[level], after.audio[level]) is (config is PARALLEL)


def test_no_dead_weight_and_fewer_parameters() -> None:
    model, depthwise = small_model(PARALLEL), small_model()
    packed = batch(ROWS)
    next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights()).total.backward()
    dead = {name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()}
    assert dead == set()
    tables = (CODEBOOKS - 1) * (VOCABULARY.codebook_size + 1) * SMALL.dim
    assert count(depthwise, 160).total - count(model, 160).total == tables
    assert count(depthwise, 160).flops_per_token == count(model, 160).flops_per_token


def test_sounds_are_sampled() -> None:
    model = small_model(PARALLEL).eval()
    session = Session(model, 3, WIDTHS, Sampling(temperature=1.0), torch.Generator().manual_seed(0))
    sounds = generate_sound(session, max_frames=6)
    assert max(len(codes) for codes in sounds) > 2
    for codes in sounds:
        assert codes.shape[1] == CODEBOOKS and ((codes >= 0) & (codes < VOCABULARY.codebook_size)).all()


def test_the_likeliest_sound_is_the_likeliest_in_a_full_pass() -> None:
    """Greedy frames, put back as targets, are the argmax of every level's logits: what is sampled is what was trained."""
    model, begin = small_model(PARALLEL).eval(), packed_sample("text_to_audio").groups[0]  # text and BOA; the session feeds that itself
    prompt = {name: getattr(begin, name)[:-1] for name in ("group", "coords", "text")}
    session = Session(model, 1, WIDTHS, Sampling(temperature=0.0), torch.Generator().manual_seed(0))
    session.feed([[replace(begin, **prompt, text_target=None, text_weight=None, audio_target=None)]])
    codes = generate_sound(session, max_frames=5)[0]
    assert len(codes) > 0
    document = grouping().document([documents()["text_to_audio"][0], Coded(Modality.AUDIO, Role.GENERATE, codes)], np.random.default_rng(0))
    packed = collate([[PackedSample("greedy", document)]], 64, WIDTHS)
    with torch.no_grad():
        logits = model.logits(model(packed))["audio"]
    assert torch.equal(logits[: len(codes), 0].argmax(-1), codes[:, 0])
    assert torch.equal(logits[: len(codes), 1:, :-1].argmax(-1), codes[:, 1:])


def test_a_model_cut_out_of_it_is_equal() -> None:
    model, packed = small_model(dataclasses.replace(PARALLEL, num_layers=5)), batch(ROWS)
    submodel = SubModel(keep_layers=(0, 2, 3, 4))
    small = extract(model, submodel)
    assert small.config.codec == "parallel"
    for a, b in zip(small(packed).audio, model(packed, submodel).audio, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
