"""BPE-dropout in the stream: the same for any ranks, workers, memory and cuts; other tokens in every epoch; media untouched."""

from collections import Counter

import pytest
import torch
from test_augment_stream import ALL, NUM, SHAPE, FakeAudio, FakeVision, corpus_of, facts, shards  # noqa: F401  (a fixture)
from test_loader import FakeText
from tiny_world import WIDTHS, grouping

from ernie5.config import load_config
from ernie5.data_pipelines.encode import CodedSample, Encoder, Tokenizers
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.data_pipelines.loader import Loader, LoaderState, StreamConfig
from ernie5.data_pipelines.mixture import Draw, Mixture
from ernie5.data_pipelines.roles import RolesConfig
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.text_dropout import TextDropout
from ernie5.recipe import Recipe
from ernie5.sequence import Sample, Segment
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.text_training import train_text_tokenizer

TEXTS = [f"{word} {i}" for i in range(12) for word in ("picture", "this is the long text of", "sound", "plain")]


@pytest.fixture(scope="module")
def text() -> Utf16Tokenizer:
    return train_text_tokenizer(TEXTS, 512)


def loader(corpus, text, rank=0, world_size=1, workers=0, window=0, cache_gib=1.0, rate=0.3) -> Loader:
    encoder = Encoder(Tokenizers(text, FakeVision(), FakeAudio()), cache_gib)
    maker = SampleMaker(corpus.sample, lambda key, reason: None, lambda: None, encoder, grouping(HistoryConfig()), RolesConfig(), seed=3,
                        views=corpus.views(), text_dropout=TextDropout(text, rate, 3) if rate else None)
    mixture = Mixture(dict(NUM), {"pairs": 2.0, "sounds": 1.0, "plain": 1.0}, seed=5)
    return Loader(maker, mixture, WIDTHS, rank, world_size, StreamConfig(workers, window))


@pytest.mark.parametrize(("augment", "window"), [((), 0), ((), 12), (ALL, 0)], ids=["plain", "window", "augmented"])
def test_ranks_workers_memory_and_cuts_change_nothing(shards, text, augment, window) -> None:  # noqa: F811
    corpus = corpus_of(shards, *augment)
    expected = facts(loader(corpus, text, window=window), 8)
    assert facts(loader(corpus, text, window=window, cache_gib=0.0), 8) == expected
    assert facts(loader(corpus, text, window=window, workers=2), 8) == expected
    halves = [facts(loader(corpus, text, rank, 2, 2 * rank, window), 8) for rank in range(2)]
    for (ids, state, both), *others in zip(expected, *halves, strict=True):
        assert all((i, s) == (ids, state) for i, s, _ in others)
        assert [part for _, _, parts in others for part in parts] == both
    again = loader(corpus, text, window=window, workers=2)
    again.restore(LoaderState.from_json(expected[2][1]))
    assert facts(again, 5) == expected[3:]


def test_off_is_what_there_was_before(shards, text) -> None:  # noqa: F811
    corpus = corpus_of(shards)
    off = facts(loader(corpus, text, rate=0.0), 3)
    assert off != facts(loader(corpus, text), 3)
    assert loader(corpus, text, rate=0.0).maker.shape_key(Draw(40, "pairs", 5)) == "pairs/5"


def test_only_texts_differ_and_in_every_draw(shards, text) -> None:  # noqa: F811
    one = loader(corpus_of(shards), text)
    draws = [Draw(number, "pairs", 0) for number in range(20)]
    found = [one.stream.fetch.get(draw) for draw in draws]
    assert len(one.maker.encoder.kept) == 1 and len({one.maker.shape_key(draw) for draw in draws}) == 20
    assert len({tuple(coded.codes[1].tolist()) for coded in found}) > 15
    assert all(text.decode(coded.codes[1]) == "this is the long text of 0" for coded in found)
    assert all(coded.codes[2] is found[0].codes[2] for coded in found)
    lengths = Counter(len(coded.codes[1]) for coded in found)
    assert min(lengths) >= len(text.encode("this is the long text of 0")) and len(lengths) > 2


def test_packed_lengths_are_those_of_the_draw(shards, text) -> None:  # noqa: F811
    one = loader(corpus_of(shards), text)
    for number in range(30):
        draw = Draw(number, "pairs", 1)
        measured = one.stream._judged(draw)
        assert measured is not None and measured.length == len(one.maker.make(draw))


def test_equal_texts_of_one_draw_are_cut_differently(text) -> None:
    words = "this is the long text of the picture and the sound"
    coded = CodedSample(Sample("a", (Segment(text.modality, words),) * 2, {}), (text.encode(words),) * 2)
    first, second = TextDropout(text, 0.5, 0).of(coded, 7).codes
    assert not torch.equal(first, second)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"text_dropout = 0.1 needs a text tokenizer with encode\(text, dropout, seed\), but FakeText"):
        TextDropout(FakeText(), 0.1, 0)
    with pytest.raises(ValueError, match="data.text_dropout = 1.0 must be at least 0"):
        load_config(Recipe, {}, ["data.text_dropout=1.0"]).check()
