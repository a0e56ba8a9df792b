"""Runs with augmentation and BPE-dropout: exact on resume, pictures of several sizes from tokenizer to loss, early mistakes."""

import io
import json

import numpy as np
import pytest
import torch
from micro_run import micro_recipe, run_micro, same_run, train_until_death
from PIL import Image

from ernie5.config import to_plain
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.run.folder import RunFolder
from ernie5.sequence import Modality
from ernie5.train.assemble import build_generator, build_model, layout_of, vocabulary_of
from ernie5.train.evaluate_loss import heldout_batches
from ernie5.train.job import resume_run
from ernie5.train.prepare import load_tokenizers

DRAWN = ("data.augment.crop={area: [0.5, 1], aspect: [0.9, 1.1]}", "data.augment.speed=0.1", "data.augment.caption=true",
         "data.text_dropout=0.1")
BUCKETS = "data.augment.aspect_buckets=[{height: 24, width: 48}]"


@pytest.fixture(scope="module")
def mixed(micro, tmp_path_factory):
    """Sources of square and of wide pictures with two captions, and sounds of the demo world."""
    folder, random = tmp_path_factory.mktemp("mixed"), np.random.default_rng(0)
    with ShardWriter(folder, "wide") as writer:
        for i in range(12):
            file = io.BytesIO()
            Image.fromarray(random.integers(0, 256, (40, 80 if i % 2 else 40, 3), np.uint8)).save(file, "JPEG")
            texts = [Member(Modality.TEXT, "txt", words.encode()) for words in (f"noise {i}", f"number {i} of many noises")]
            writer.write(str(i), (*texts, Member(Modality.IMAGE, "jpg", file.getvalue())), {})
    demo = micro.folder / "data" / "demo" / "train"
    return f"data.sources={{wide: {{path: {folder}, weight: 2}}, audio: {{path: '{demo}/audio-*.tar'}}}}", "data.heldout={}"


@pytest.fixture(scope="module")
def whole(mixed, tmp_path_factory):
    return run_micro(micro_recipe(tmp_path_factory.mktemp("whole") / "run", None, *mixed, *DRAWN, BUCKETS))


def test_a_run_that_died_goes_on_with_the_same_views(mixed, whole, tmp_path) -> None:
    more = ("data.workers=2", "data.cache_gib=0.0001", "data.encode_ahead=0")
    recipe = micro_recipe(tmp_path / "run", whole.folder, *mixed, *DRAWN, BUCKETS, *more)
    train_until_death(recipe, 3)
    same_run(run_micro(recipe), whole)


def test_the_tokenizer_is_trained_on_all_sizes_and_the_run_learns(mixed, whole, tmp_path) -> None:
    stored = json.loads((whole.folder / "tokenizers" / "vision" / "config.json").read_text())
    assert stored["num_scales"] == 4                                  # 3 x 6 cells: 1, 2, 4, 6; a square has three scales
    plain = run_micro(micro_recipe(tmp_path / "plain", whole.folder, *mixed))
    assert all(np.isfinite(line["loss/vision"]) for line in whole.metrics) and plain.metrics != whole.metrics


def test_augmentation_may_not_change_in_mid_run(whole) -> None:
    with pytest.raises(ValueError, match="data.augment"):
        run_micro(micro_recipe(whole.folder, None), lambda: resume_run(str(whole.folder), ["data.augment.speed=0.2", "train.steps=7"]))


def test_nor_may_dropout(whole) -> None:
    with pytest.raises(ValueError, match="data.text_dropout"):
        run_micro(micro_recipe(whole.folder, None), lambda: resume_run(str(whole.folder), ["data.text_dropout=0.2", "train.steps=7"]))


def test_a_size_that_the_tokenizer_never_saw_is_refused(micro, tmp_path) -> None:
    size = "data.augment.aspect_buckets=[{height: 16, width: 72}]"
    with pytest.raises(ValueError, match=r"\[0\] = 16 x 72: latent grid 2 x 9 has 5 scales, but .* at most 3; .* take this size"):
        run_micro(micro_recipe(tmp_path / "run", micro.folder, size))


def test_lengths_of_a_checkpoint_hold_for_its_augmentation_only(micro) -> None:
    off, on = (micro_recipe(micro.folder, None, *more) for more in ((), DRAWN))
    tokenizers = load_tokenizers(off)
    assert layout_of(off, tokenizers) != layout_of(on, tokenizers)
    assert layout_of(off, tokenizers) == micro.saved.state["training"]["loader"]["layout"]
    assert to_plain(off)["data"]["augment"]["crop"] is None


def test_held_out_batches_know_nothing_of_it(micro) -> None:
    batches = []
    for more in ((), (*DRAWN, "data.augment.aspect_buckets=[{height: 16, width: 32}]")):
        recipe = micro_recipe(micro.folder, None, *more)
        tokenizers = load_tokenizers(recipe)
        generator = build_generator(recipe, tokenizers, build_model(recipe, vocabulary_of(recipe, tokenizers)), None)
        batches.append(list(heldout_batches(recipe, RunFolder(micro.folder), generator, 6)))
    for one, other in zip(*batches, strict=True):
        assert one.sample_ids == other.sample_ids and torch.equal(one.text, other.text)
        assert torch.equal(one.vision, other.vision) and torch.equal(one.audio, other.audio)
        assert all(torch.equal(a.patches, b.patches) for a, b in zip(one.understand, other.understand, strict=True))
