"""An augmented stream: the same for any ranks, workers and cuts, another one in every epoch, and as ever where it is off."""

import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from make_media import image_bytes, sound_bytes
from test_loader import FakeText
from tiny_world import CODEBOOK_SIZE, CODEBOOKS, WIDTHS, grouping, quantizer

from ernie5.config import load_config
from ernie5.data_pipelines.encode import Encoder, Tokenizers
from ernie5.data_pipelines.encode_ahead import encode_ahead
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.loader import BatchShape, EndOfData, Loader, LoaderState, StreamConfig
from ernie5.data_pipelines.mixture import Draw, Mixture
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sample_maker import SampleMaker, key_of
from ernie5.data_pipelines.write_shards import Member, ShardWriter
from ernie5.recipe import Recipe
from ernie5.sequence import Modality
from ernie5.tokenizers.base import VisionCodes
from ernie5.train.prepare import Corpus, open_sources, open_training_sources

ALL = ("crop={area: [0.3, 1], aspect: [0.8, 1.25]}", "speed=0.3", "caption=true", "aspect_buckets=[{height: 16, width: 32}]")
SHAPE = BatchShape(4, 96, 2)
NUM = {"pairs": 12, "sounds": 6, "plain": 5}
BAD = ("pairs/pairs-000000/3", "pairs/pairs-000000/7")


class FakeVision:
    """Codes that differ with every pixel."""

    modality = Modality.IMAGE
    quantizer = quantizer()

    def encode(self, media: torch.Tensor) -> VisionCodes:
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(media.numpy().tobytes()).digest()[:8], "little"))
        draw = lambda c: torch.from_numpy(random.standard_normal((1, c, media.shape[2] // 8, media.shape[3] // 8), np.float32))  # noqa: E731
        return VisionCodes(draw(8), draw(6))


class FakeAudio:
    modality = Modality.AUDIO

    def encode(self, media: torch.Tensor) -> torch.Tensor:
        frames = media[: len(media) // 800 * 800].reshape(-1, 800).double().square().sum(1)
        return (frames * 1e6).long()[:, None].repeat(1, CODEBOOKS) % CODEBOOK_SIZE


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    """Pictures with two captions each (two are damaged), sounds with one, pictures of a source that is not augmented."""
    folder, random = tmp_path_factory.mktemp("shards"), np.random.default_rng(0)
    text = lambda words: Member(Modality.TEXT, "txt", words.encode())  # noqa: E731
    for name, number in NUM.items():
        with ShardWriter(folder, name) as writer:
            for i in range(number):
                picture = image_bytes(random.integers(0, 256, (40, 40 + 40 * (i % 2), 3), np.uint8))
                if f"{name}/{name}-000000/{i}" in BAD:
                    picture = picture[: len(picture) // 2]
                members = {"pairs": (text(f"picture {i}"), text(f"this is the long text of {i}"), Member(Modality.IMAGE, "png", picture)),
                           "sounds": (text(f"sound {i}"), Member(Modality.AUDIO, "wav", sound_bytes(seconds=0.5 + 0.05 * i))),
                           "plain": (text(f"plain {i}"), Member(Modality.IMAGE, "png", picture))}
                writer.write(str(i), members[name], {})
    return folder


def recipe_of(shards, *augment: str) -> Recipe:
    sources = ", ".join(f"{name}: {{path: '{shards}/{name}-*.tar'{', augment: false' if name == 'plain' else ''}}}" for name in NUM)
    return load_config(Recipe, {}, [f"data.sources={{{sources}}}", f"data.heldout={{{sources}}}", *(f"data.augment.{a}" for a in augment)])


def corpus_of(shards, *augment: str) -> Corpus:
    return open_training_sources(recipe_of(shards, *augment), Quarantine(shards / "log.jsonl"))


def loader(corpus: Corpus, rank=0, world_size=1, workers=0, window=0, reject=None, accept=None, epochs=None, cache_gib=1.0) -> Loader:
    encoder = Encoder(Tokenizers(FakeText(), FakeVision(), FakeAudio()), cache_gib)
    maker = SampleMaker(corpus.sample, reject or (lambda key, reason: None), accept or (lambda: None), encoder, grouping(HistoryConfig()),
                        RolesConfig(), seed=corpus.recipe.run.seed, views=corpus.views())
    mixture = Mixture(dict(NUM), {"pairs": 2.0, "sounds": 1.0, "plain": 1.0}, seed=5, epochs=epochs or {})
    return Loader(maker, mixture, WIDTHS, rank, world_size, StreamConfig(workers, window))


def tensors_of(packed):
    return (packed.text, packed.vision, packed.audio, packed.sample, packed.coords, packed.vision_target, packed.audio_target,
            *(t for read in packed.understand for t in (read.patches, read.features)))


def digest(batch) -> list:
    return [[hashlib.sha256(t.contiguous().numpy().tobytes()).hexdigest() for t in tensors_of(p)] for p in batch.micro_batches]


def facts(one: Loader, steps: int, shape=SHAPE) -> list:
    found = [(b.sample_ids, b.state.to_json(), digest(b)) for b in (one.next(shape, shape) for _ in range(steps))]
    one.close()
    return found


@pytest.mark.parametrize(("augment", "window"), [(ALL, 0), (ALL, 12), (ALL[:1], 0)], ids=["all", "all, window", "crop"])
def test_ranks_workers_memory_and_cuts_change_nothing(shards, augment, window) -> None:
    corpus = corpus_of(shards, *augment)
    expected = facts(loader(corpus, window=window), 8)
    assert facts(loader(corpus, window=window, cache_gib=0.0), 8) == expected
    assert facts(loader(corpus, window=window, workers=2), 8) == expected
    for workers in (0, 2):
        halves = [facts(loader(corpus, rank, 2, workers, window), 8) for rank in range(2)]
        for (ids, state, both), *others in zip(expected, *halves, strict=True):
            assert all((i, s) == (ids, state) for i, s, _ in others)
            assert [part for _, _, parts in others for part in parts] == both
    for cut, workers in ((1, 0), (3, 2), (5, 0)):
        again = loader(corpus, window=window, workers=workers)
        again.restore(LoaderState.from_json(expected[cut - 1][1]))
        assert facts(again, 8 - cut) == expected[cut:]


def test_off_is_what_there_was_before_there_was_augmentation(shards) -> None:
    corpus = corpus_of(shards)
    plain, one = open_sources(corpus.recipe, corpus.recipe.data.sources, None), loader(corpus)
    assert corpus.augment == {} and corpus.views() is None
    draw = Draw(40, "pairs", 5)
    assert one.maker.key(draw) == one.maker.shape_key(draw) == key_of(draw) == "pairs/5"
    assert facts(one, 6) == facts(loader(plain), 6)


def test_keys_hold_what_a_sample_depends_on(shards) -> None:
    draw, plain = Draw(40, "pairs", 5), Draw(40, "plain", 2)
    for augment, key, shape_key in ((ALL[:1], "pairs/5@40", "pairs/5"), (ALL[1:2], "pairs/5@40", "pairs/5@40"),
                                    (ALL[2:3], "pairs/5@40", "pairs/5@40"), (ALL[3:], "pairs/5", "pairs/5")):
        maker = loader(corpus_of(shards, *augment)).maker
        assert (maker.key(draw), maker.shape_key(draw)) == (key, shape_key)
        assert maker.key(plain) == maker.shape_key(plain) == "plain/2"


def test_every_epoch_shows_something_else(shards) -> None:
    corpus = corpus_of(shards, *ALL)
    maker = loader(corpus).maker
    first, second = (maker.sample(Draw(number, "pairs", 0)).segments for number in (0, 21))
    assert not torch.equal(first[-1].media, second[-1].media)
    views = [maker.sample(Draw(n, "pairs", 0)) for n in range(20)]
    assert {v.segments[0].media for v in views} == {"picture 0", "this is the long text of 0"}
    assert len({v.segments[1].media.numpy().tobytes() for v in views}) == 20
    assert len({len(maker.sample(Draw(n, "sounds", 0)).segments[1].media) for n in range(20)}) > 15
    same = [maker.sample(Draw(n, "plain", 0)).segments[1].media for n in (0, 21)]
    assert torch.equal(*same)
    assert torch.equal(maker.sample(Draw(21, "pairs", 0)).segments[-1].media, second[-1].media)


def test_held_out_data_is_never_augmented(shards) -> None:
    recipe = recipe_of(shards, *ALL)
    heldout, off = open_sources(recipe, recipe.data.heldout, None), corpus_of(shards)
    for name, number in NUM.items():
        for i in range(number):
            if f"{name}/{name}-000000/{i}" not in BAD:
                one, other = heldout.sample(name, i), off.sample(name, i)
                assert one.id == other.id and len(one.segments) == len(other.segments)
                assert all(torch.equal(a.media, b.media) if isinstance(a.media, torch.Tensor) else a == b
                           for a, b in zip(one.segments, other.segments, strict=True))
    assert heldout.views() is None


def test_tokenizers_are_trained_on_buckets_without_any_draw(shards) -> None:
    corpus = corpus_of(shards, *ALL)
    shapes = [tuple(corpus.sample("pairs", i).segments[-1].media.shape[2:]) for i in range(3)]
    assert shapes == [(32, 32), (16, 32), (32, 32)] and len(corpus.sample("pairs", 0).segments) == 3
    assert corpus.sample("plain", 1).segments[-1].media.shape == (1, 3, 32, 32)


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_is_named_by_place_and_counted_by_draw(shards, workers) -> None:
    counts = []
    for augment in ((), ALL, ALL[:1]):
        bad, good = Counter(), Counter()
        one = loader(corpus_of(shards, *augment), 0, 2, workers, epochs=dict.fromkeys(NUM, 3),
                     reject=lambda *found, bad=bad: bad.update([found]), accept=lambda good=good: good.update(["good"]))
        with pytest.raises(EndOfData):
            while True:
                one.next(SHAPE._replace(micro_rows=1))
        one.close()
        counts.append((bad, good.total()))
    assert counts[0] == counts[1] == counts[2] and counts[0][1] == 3 * (sum(NUM.values()) - 2)
    assert {key: number for (key, _), number in counts[0][0].items()} == {"pairs/3": 3, "pairs/7": 3}


def test_a_crop_alone_lets_a_rank_decode_its_own_rows_only(shards) -> None:
    corpus, drawn = corpus_of(shards, *ALL[:1]), Counter()
    one = loader(corpus, 0, 2, cache_gib=0.0)
    views = one.maker.views
    one.maker.views = replace(views, read=lambda draw: drawn.update([draw.number]) or views.read(draw))
    while one.state.drawn < 150:
        before = one.state.drawn
        batch = one.next(SHAPE._replace(micro_rows=1))
    used = sum(name.startswith(("pairs", "sounds")) for name in batch.sample_ids)
    late = sum(count for number, count in drawn.items() if number >= before - 10)
    assert 0 < late < 0.9 * used and max(drawn.values()) <= 3


def test_encoding_ahead_leaves_augmented_sources_alone(shards) -> None:
    whole = {"pairs": 10, "sounds": 6, "plain": 5}
    for augment, kept in (((), whole), (ALL, {"plain": 5}), (ALL[3:], whole)):
        one = loader(corpus_of(shards, *augment))
        encode_ahead(one.maker, NUM, 100)
        assert Counter(key.partition("/")[0] for key in one.maker.encoder.kept) == kept
