"""Words of the sources: the same for any number of workers, exact at the bound of texts, damaged samples left out, memory bounded."""

import json
from collections import Counter

import pytest

from ernie5.config import load_config
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.recipe import Recipe
from ernie5.tokenizers.text_counting import count_words
from ernie5.tokenizers.text_training import TextTraining, train_on_counts
from ernie5.train import count_words as module
from ernie5.train.count_words import count_words_of
from ernie5.train.prepare import open_training_sources

TEXTS = [f"text number {i} of many, ข้อความ {i % 7}" for i in range(100)]


@pytest.fixture
def corpus(tmp_path, monkeypatch):
    """Two files of lines; every tenth line of the second is damaged."""
    monkeypatch.setattr(module, "CHUNK", 7)
    for name, part in (("a", TEXTS[:60]), ("b", TEXTS[60:])):
        lines = ["{" if name == "b" and i % 10 == 3 else json.dumps({"text": text}) for i, text in enumerate(part)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    sources = ", ".join(f"{name}: {{path: {tmp_path}/{name}.jsonl}}" for name in "ab")
    return open_training_sources(load_config(Recipe, {}, [f"data.sources={{{sources}}}"]), Quarantine(tmp_path / "log.jsonl"))


@pytest.mark.parametrize("max_texts", [1, 7, 8, 59, 60, 61, 80, 1000])
@pytest.mark.parametrize("workers", [0, 2])
def test_counts_are_those_of_the_first_texts(corpus, max_texts, workers) -> None:
    good = TEXTS[:60] + [text for i, text in enumerate(TEXTS[60:]) if i % 10 != 3]
    assert count_words_of(corpus, TextTraining(workers=workers), max_texts) == count_words(good[:max_texts], 24, 10**6)


def test_long_runs_are_cut_where_asked(tmp_path) -> None:
    (tmp_path / "c.jsonl").write_text(json.dumps({"text": "漢" * 100}))
    recipe = load_config(Recipe, {}, [f"data.sources={{c: {{path: {tmp_path}/c.jsonl}}}}"])
    corpus = open_training_sources(recipe, Quarantine(tmp_path / "log"))
    assert count_words_of(corpus, TextTraining(max_run_chars=96), 10) == {"漢" * 96: 1, "漢" * 4: 1}
    assert train_on_counts(Counter({"\U00020000" * 128: 3}), 300, TextTraining(max_run_chars=128)).vocab_size > 268


def test_what_is_forgotten_does_not_depend_on_the_workers(corpus) -> None:
    one, two = (count_words_of(corpus, TextTraining(workers=workers, max_words=20), 1000) for workers in (0, 2))
    assert one == two and len(one) <= 40
    everything: Counter = count_words_of(corpus, TextTraining(), 1000)
    assert len(everything) > 40 and one[" number"] == everything[" number"]
