"""Steps about text: words and n-grams, near duplicates, decontamination, length and language."""

import numpy as np
import pytest

from ernie5.data_pipelines.curate import near_text
from ernie5.data_pipelines.curate.decontaminate import EvalGrams, EvalText
from ernie5.data_pipelines.curate.hashing import grams, jaccard, normalise, words
from ernie5.data_pipelines.curate.near_text import NearText, bands
from ernie5.data_pipelines.curate.planted_texts import edited, real_text
from ernie5.data_pipelines.curate.text_rules import Language, Length, check_language, check_languages_known, check_length
from ernie5.data_pipelines.curate.view import View
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.sources import Record
from ernie5.data_pipelines.write_shards import Member
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality


def view(text, *media):
    members = tuple(Member(Modality.TEXT, "txt", t.encode()) for t in (text,) if t) + media
    return View(Record(f"s/shard/{text[:8]}", members, {}), MediaLimits())


PICTURE = Member(Modality.IMAGE, "png", b"")


def triples(text):
    """Word triples by plain Python, to hold the hashes against."""
    w = words(text)
    return {tuple(w[i:i + 3]) for i in range(len(w) - 2)} or {tuple(w)}


def similarity(a, b):
    return len(triples(a) & triples(b)) / len(triples(a) | triples(b))


def test_words_are_normalised():
    assert normalise(" Ａ  Red\n CIRCLE. ") == "a red circle."
    assert words("Don't; stop-it, 3x!") == ["don", "t", "stop", "it", "3x"]
    assert words("红圆 und Grün") == ["红", "圆", "und", "grün"]
    assert grams(words("?!"), 3).tolist() == [] and len(grams(["a", "b"], 3)) == 1
    assert not np.intersect1d(grams(["a", "b"], 3), grams(["a", "b", "c"], 2)).size == 0


def test_hashed_similarity_is_the_similarity():
    for i in range(30):
        random = stream(0, "pairs", i)
        text = real_text(random)
        for other in (edited(text, random, 4), real_text(random), text):
            assert jaccard(grams(words(text), 3), grams(words(other), 3)) == pytest.approx(similarity(text, other), abs=1e-12)


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_bands_find_what_is_at_the_threshold(threshold):
    count, rows = bands(NearText(threshold))
    assert count * rows <= 128
    assert 1 - (1 - threshold**rows) ** count >= 0.99 > 1 - (1 - threshold ** (rows + 1)) ** (128 // (rows + 1))


def find(texts, rule):
    views = [view(text) for text in texts]
    rows = np.concatenate([near_text.sign(v, rule) for v in views])
    return near_text.find_copies(rows, np.arange(len(views)), rule, lambda i: near_text.grams_of(views[i], rule))


def test_near_texts_are_found_and_no_others():
    """The answer is held against all pairs compared with plain Python sets."""
    rule, texts = NearText(0.7), []
    for i in range(150):
        random = stream(1, "near", i)
        texts.append(real_text(random))
        texts.append(edited(texts[-1], random, int(random.integers(1, 9))))
    found = find(texts, rule)
    gone = set(found.number.tolist())
    for number, of, value in zip(found.number.tolist(), found.of.tolist(), found.value.tolist(), strict=True):
        assert of < number and of not in gone
        assert value == pytest.approx(similarity(texts[number], texts[of])) and value >= rule.threshold
    near = [i for i in range(0, 300, 2) if similarity(texts[i], texts[i + 1]) >= rule.threshold]
    assert 50 < len(near) < 140
    assert sum(i + 1 in gone for i in near) / len(near) >= 0.98
    assert gone <= {i + 1 for i in near}


def test_chains_do_not_pull_in_what_is_not_alike():
    line = real_text(stream(2, "chain")).split()[:40]
    texts = [" ".join(line[:cut] + [f"new{i}" for i in range(cut, len(line))]) for cut in (40, 35, 30)]
    assert similarity(texts[0], texts[1]) > 0.6 and similarity(texts[1], texts[2]) > 0.6 > similarity(texts[0], texts[2])
    assert find(texts, NearText(0.6)).number.tolist() == [1]
    assert find(texts[:1] * 3, NearText(0.6)).of.tolist() == [0, 0]


def test_near_text_looks_only_at_its_scope():
    rule = NearText()
    assert near_text.sign(view("some words"), rule).shape == (1, 128)
    assert near_text.sign(view("some words", PICTURE), rule).shape == (0, 128)
    assert near_text.sign(view("some words", PICTURE), NearText(of="captions")).shape == (1, 128)
    assert near_text.sign(view("", PICTURE), NearText(of="all")).shape == (0, 128)
    assert (near_text.sign(view("some words"), rule) != near_text.sign(view("some words"), NearText(seed=1))).any()
    long = " ".join(f"w{i}" for i in range(9000))  # more grams than are hashed at once
    assert near_text.sign(view(long), rule).shape == (1, 128)


def test_decontamination():
    asked = " ".join(f"q{i}" for i in range(20))                  # 13 grams of 8 words
    evals = EvalGrams([view(asked), view("short question"), view(real_text(stream(0, "e")))], EvalText("x", words=8, threshold=0.5))
    around = real_text(stream(3, "around"))
    assert evals.check(view(around)) is None
    hit = evals.check(view(f"{around} {asked} {around}"))
    assert (hit.reason, hit.value, hit.of) == ("contaminated text", 1.0, "s/shard/q0 q1 q2")
    assert evals.check(view(" ".join(asked.split()[:14]))).value == pytest.approx(7 / 13, abs=1e-4)
    assert evals.check(view(" ".join(asked.split()[:13]))) is None  # 6 of 13
    assert evals.check(view("Short question!")).of == "s/shard/short qu"
    assert evals.check(view("a short question here and there and everywhere")) is None
    assert EvalGrams([], EvalText("x")).check(view(around)) is None


def test_length():
    rule = Length(min_words=3, max_characters=20)
    assert check_length(view("one two three"), rule) is None
    assert check_length(view("one two"), rule).reason == "too few words"
    assert (found := check_length(view("one two three fourteen"), rule)).reason == "too many characters" and found.value == 22
    assert check_length(view("", PICTURE), rule) is None
    assert check_length(view("", PICTURE), Length(required=True)).reason == "no text"
    assert check_length(view("one"), Length(of="captions", min_words=2)) is None
    assert check_length(view("one", PICTURE), Length(of="captions", min_words=2)).value == 1


def test_length_in_tokens(micro):
    folder = next(p.parent for p in sorted(micro.folder.rglob("*")) if p.name.endswith(".model") or p.name == "text.json")
    rule = Length(max_tokens=2, tokenizer=str(folder))
    assert check_length(view("a"), rule) is None
    assert check_length(view("a small red circle at the top left"), rule).reason == "too many tokens"


@pytest.mark.parametrize(("settings", "message"), [
    ({}, "sets no limit"), ({"min_words": 3, "max_words": 2}, "nothing could pass"), ({"min_tokens": 3}, "need tokenizer"),
])
def test_lengths_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Length(**settings)


def test_language():
    pytest.importorskip("py3langid")
    rule = Language(keep=("en", "de"))
    check_languages_known(rule)
    assert check_language(view("The weather is fine today, and the children play in the garden."), rule) is None
    assert check_language(view("Das Wetter ist heute schön, und die Kinder spielen im Garten."), rule) is None
    found = check_language(view("Le temps est beau aujourd'hui et les enfants jouent dans le jardin."), rule)
    assert found.reason == "other language" and found.value.startswith("fr ")
    assert check_language(view("Le temps"), rule) is None  # too short to tell
    with pytest.raises(ValueError, match="'xx' is no language"):
        check_languages_known(Language(keep=("xx",)))
