"""Text tokenizer: exact round trips, word-like tokens, reproducible BPE-dropout, determinism, clear errors."""

import logging
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ernie5.sequence import Modality
from ernie5.tokenizers.base import Tokenizer
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS, SpecialToken
from ernie5.tokenizers.text import Utf16Tokenizer, printable, words
from ernie5.tokenizers.text_counting import count_words
from ernie5.tokenizers.text_training import MIN_VOCAB_SIZE, train_text_tokenizer

WORDS = "the a small red circle moves left big blue square above green triangle sound beep quick brown fox".split()
ANY_TEXT = st.text(st.characters(codec="utf-8"))   # every code point except surrogates
UNITS = st.lists(st.integers(0, 0xFFFF))           # any UTF-16, halves of pairs included


def toy_corpus(num_texts: int = 300) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=8)) + ". " for _ in range(num_texts)]


@pytest.fixture(scope="module")
def tokenizer() -> Utf16Tokenizer:
    return train_text_tokenizer(toy_corpus(), 512)


def pieces(tokenizer: Utf16Tokenizer, text: str) -> list[str]:
    return [tokenizer.token_text(i) for i in tokenizer.encode(text).tolist()]


def test_contract(tokenizer):
    assert isinstance(tokenizer, Tokenizer) and tokenizer.modality is Modality.TEXT
    ids = tokenizer.encode("a small red circle")
    assert ids.dtype == torch.int64 and ids.ndim == 1
    assert ids.min() >= NUM_SPECIAL_TOKENS and ids.max() < tokenizer.vocab_size
    assert tokenizer.encode("").shape == (0,) and tokenizer.encode("").dtype == torch.int64 and tokenizer.decode([]) == ""


@given(ANY_TEXT)
def test_round_trip_of_any_text(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


@given(UNITS)
def test_round_trip_of_any_utf16(tokenizer, units):
    data = b"".join(unit.to_bytes(2, "big") for unit in units)
    text = data.decode("utf-16-be", "surrogatepass")
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert tokenizer.decode(tokenizer.encode(text, dropout=0.5, seed=len(units))) == text
    printable(text).encode("utf-8")


@pytest.mark.parametrize("text", [
    " ", "  a", "a  ", "a   b", "\n", "a\n\n b\r\n\tc", "\x00\x1f\x7f", "\ufeffa\u2028b", "▁a ▁ <unk> </s>",
    "\ue000\ue0ff\uf8ff", "e\u0301 é", "漢字 かな 한국어", "हिन्दी ไทย مرحبا", "😀👩‍🚀", "\ud83d", "\udc00\ud800", "\U0010ffff",
])
def test_round_trip_of_what_normalisers_change(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert "".join(words(text)) == text


def test_long_text_without_spaces(tokenizer):
    text = "漢" * 20_000 + "a" * 20_000
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words_of_the_corpus_are_single_tokens(tokenizer):
    assert pieces(tokenizer, "the small red circle moves. the") == ["the", " small", " red", " circle", " moves", ".", " the"]


def test_tokens_are_whole_characters_and_never_cross_a_space(tokenizer):
    merged = [tokenizer.piece_bytes[i] for i in range(tokenizer.vocab_size - MIN_VOCAB_SIZE)]
    assert merged and all(len(piece) % 2 == 0 and piece[0] == 0 for piece in merged)
    assert all(" " not in piece.decode("utf-16-be")[1:] for piece in merged)


def test_every_merge_is_used_by_the_corpus(tokenizer):
    # a token inside a longer one may be hidden without dropout; the last merge of the vocabulary may not
    last = tokenizer.vocab_size - 256 - 1
    assert any(last in tokenizer.encode(text).tolist() for text in toy_corpus())


def test_words_of_scripts_with_signs_stay_whole():
    assert words("नमस्ते दुनिया") == ["नमस्ते", " दुनिया"]
    assert words("Hi, x_1 12345  y") == ["Hi", ",", " x", "_", "1", " 123", "45", " ", " y"]


def test_dropout_gives_other_segmentations_of_the_same_text(tokenizer):
    text = "the small red circle moves left"
    plain = tokenizer.encode(text)
    drawn = [tokenizer.encode(text, dropout=0.3, seed=s) for s in range(20)]
    assert all(tokenizer.decode(ids) == text for ids in drawn)
    assert len({tuple(ids.tolist()) for ids in drawn}) > 10
    assert sum(map(len, drawn)) / 20 > len(plain)
    assert torch.equal(tokenizer.encode(text), plain)


def test_dropout_depends_on_the_seed_alone(tokenizer):
    text = "the small red circle moves left"
    first = tokenizer.encode(text, dropout=0.3, seed=7)
    tokenizer.encode("something else", dropout=0.5, seed=1)
    assert torch.equal(tokenizer.encode(text, dropout=0.3, seed=7), first)
    for seed in (0, -1, 2**32 - 1, 2**63):  # sentencepiece reads one of these as "take a random seed"
        assert torch.equal(tokenizer.encode(text, dropout=0.5, seed=seed), tokenizer.encode(text, dropout=0.5, seed=seed))


def test_border_does_not_change_with_dropout(tokenizer):
    for seed in range(20):
        for i in tokenizer.encode("moves moves moves", dropout=0.4, seed=seed).tolist():
            assert "s\x00 " not in tokenizer.piece_bytes[i - NUM_SPECIAL_TOKENS].decode("latin-1")


def test_decode_skips_control_tokens_and_survives_halves(tokenizer):
    ids = tokenizer.encode("red").tolist()
    assert tokenizer.decode([SpecialToken.BOS, *ids, SpecialToken.SEP, *ids, SpecialToken.EOS]) == "redred"
    byte = {tokenizer.piece_bytes[i]: i + NUM_SPECIAL_TOKENS for i in range(tokenizer.vocab_size - NUM_SPECIAL_TOKENS)}
    assert tokenizer.decode([*ids, byte[b"\x00"]]) == "red\ufffd"
    half = tokenizer.decode([byte[b"\xd8"], byte[b"\x3d"], *ids])
    assert half == "\ud83dred" and printable(half) == "\ufffdred"
    assert tokenizer.token_text(byte[b"\xd8"]) == "<d8>" and tokenizer.token_text(SpecialToken.BOS) == "<control 1>"


@given(st.lists(st.integers(0, 300)))
def test_any_sampled_ids_can_be_read(tokenizer, ids):
    printable(tokenizer.decode(ids)).encode("utf-8")


def test_decode_refuses_foreign_ids(tokenizer):
    with pytest.raises(ValueError, match="must lie between 0 and vocab_size - 1"):
        tokenizer.decode([tokenizer.vocab_size])


def test_training_is_deterministic_and_order_free():
    texts = toy_corpus()
    first, again, reversed_ = (train_text_tokenizer(t, 340) for t in (texts, iter(texts), texts[::-1]))
    assert first.model == again.model == reversed_.model
    assert first.vocab_size == 340
    assert train_text_tokenizer(texts[:50], 340).fingerprint != first.fingerprint


def test_small_corpus_gives_the_largest_vocabulary_and_says_so(caplog):
    with caplog.at_level(logging.WARNING):
        tokenizer = train_text_tokenizer(["one two"], 32_000)
    assert MIN_VOCAB_SIZE < tokenizer.vocab_size < 300
    assert f"supports only {tokenizer.vocab_size}" in caplog.text
    assert pieces(tokenizer, "one two") == ["one", " two"]
    assert train_text_tokenizer(["x"], MIN_VOCAB_SIZE).vocab_size == MIN_VOCAB_SIZE


def test_rare_characters_stay_bytes():
    tokenizer = train_text_tokenizer([*toy_corpus(), "漢"], 340, character_coverage=0.999)
    assert pieces(tokenizer, "漢") == ["<6f>", "<22>"]
    assert tokenizer.decode(tokenizer.encode("漢字")) == "漢字"


def test_large_counts_lose_no_byte():
    tokenizer = train_text_tokenizer(["the quick fox. " * 200_000], 300)
    assert tokenizer.decode(tokenizer.encode("漢\x00é")) == "漢\x00é"


def test_counting_is_bounded():
    counts = count_words((f"common w{i:03d}x" for i in range(1000)), max_chars=24, max_words=50)
    assert len(counts) <= 100 and counts["common"] == 1000
    assert max(map(len, count_words(["漢" * 100], 24, 50))) == 24


@pytest.mark.parametrize(("texts", "vocab_size", "message"), [
    (["a"], 267, "at least 268"), ([], 512, "texts are empty"), ([""], 512, "texts are empty"),
])
def test_training_refuses(texts, vocab_size, message):
    with pytest.raises(ValueError, match=message):
        train_text_tokenizer(texts, vocab_size)


@pytest.mark.parametrize("dropout", [-0.1, 1.0, float("nan")])
def test_dropout_out_of_range(tokenizer, dropout):
    with pytest.raises(ValueError, match="dropout"):
        tokenizer.encode("a", dropout=dropout)


def test_save_and_load(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "text")
    loaded = Utf16Tokenizer.load(tmp_path / "text")
    assert loaded.fingerprint == tokenizer.fingerprint and loaded.vocab_size == tokenizer.vocab_size
    assert torch.equal(loaded.encode("the quick fox"), tokenizer.encode("the quick fox"))


def test_load_refuses_what_is_damaged(tokenizer, tmp_path):
    with pytest.raises(FileNotFoundError):
        Utf16Tokenizer.load(tmp_path)
    tokenizer.save(tmp_path)
    (tmp_path / "text.model").write_bytes(tokenizer.model[:100])
    with pytest.raises(ValueError, match="text.model"):
        Utf16Tokenizer.load(tmp_path)
    (tmp_path / "text.model").write_bytes(train_text_tokenizer(["one two"], 300).model)
    with pytest.raises(ValueError, match="fingerprint"):
        Utf16Tokenizer.load(tmp_path)
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(ValueError, match="text.json is not JSON"):
        Utf16Tokenizer.load(tmp_path)
    (tmp_path / "text.json").write_text("{}")
    with pytest.raises(ValueError, match="format"):
        Utf16Tokenizer.load(tmp_path)
