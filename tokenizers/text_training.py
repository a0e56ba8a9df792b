"""Training of the text tokenizer: count words, then merge the most frequent neighbours (sentencepiece's BPE trainer).

Only counts go to the trainer, so memory is bounded by the number of different words, not by the size of the corpus. In UTF-16BE
every Latin letter begins with the byte 00, so plain counting would merge a letter with the 00 of the next one. Whole characters
are therefore merged first: the commonest ones, which make up `character_coverage` of the text, are added as words of their own with a
count that nothing exceeds. Every token of ordinary text is then a whole number of characters. Rare characters stay bytes.

Report: §3.1. Ours: whole characters first. Phrases of unspaced scripts leave the vocabulary in text_pruning.py.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import sentencepiece

from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS
from ernie5.tokenizers.text import FIRST_BYTE, NUM_BYTES, SHIFT, Utf16Tokenizer, to_alphabet
from ernie5.tokenizers.text_counting import count_words, ranked
from ernie5.tokenizers.text_pruning import MakeSegmenter, prune, segmenter_of

MIN_VOCAB_SIZE = NUM_SPECIAL_TOKENS + NUM_BYTES
CHARACTER_SHARE = 0.5  # at most this part of the merges makes single characters
PRUNING_ROOM = 0.25    # merges beyond the vocabulary that the trainer makes, to take the places of phrases
MAX_TOKEN_CHARS = 24
MAX_RUN_CHARS = 128    # what the trainer takes in a row, if each character has four bytes
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TextTraining:
    """`max_texts` of the sources are read (null = 100 times tokenizers.max_media), by `workers` processes (0 = this one; the result is the
    same). `max_words` bounds memory: at most twice as many different words are kept, the rarest are forgotten. `max_run_chars`: longer
    words (unspaced scripts) are counted in parts of this length; 24 would write 1 to 4 % more tokens. `prune`: phrases of unspaced scripts
    that `segmenter` (`module:callable`, str -> list of str; null = learnt from the corpus) can split leave the vocabulary.
    """

    max_texts: int | None = None
    max_words: int = 2_000_000
    workers: int = 0
    max_run_chars: int = 96
    character_coverage: float = 0.9995
    prune: bool = False
    segmenter: str | None = None

    def __post_init__(self) -> None:
        for key, least in (("max_texts", 1), ("max_words", 1), ("workers", 0)):
            value = getattr(self, key)
            if value is not None and value < least:
                raise ValueError(f"tokenizers.text.training.{key} = {value} must be at least {least}")
        if not MAX_TOKEN_CHARS <= self.max_run_chars <= MAX_RUN_CHARS:
            raise ValueError(f"tokenizers.text.training.max_run_chars = {self.max_run_chars} must be {MAX_TOKEN_CHARS} to {MAX_RUN_CHARS}; "
                             "96 is good for scripts without spaces")
        if not 0 < self.character_coverage <= 1:
            raise ValueError(f"tokenizers.text.training.character_coverage = {self.character_coverage} must be above 0 and at most 1; "
                             "0.9995 leaves the rarest characters as bytes")
        if self.segmenter is not None and not self.prune:
            raise ValueError(f"tokenizers.text.training.segmenter = {self.segmenter} has no use without prune; use prune: true")


def train_text_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    character_coverage: float = 0.9995,
    max_token_chars: int = MAX_TOKEN_CHARS,
    max_distinct_words: int = 2_000_000,
    make_segmenter: MakeSegmenter | None = None,
) -> Utf16Tokenizer:
    """Learn a vocabulary of at most `vocab_size` ids (control tokens included) from `texts`, read once.

    The same texts in the same order give the same tokenizer. A corpus too small for `vocab_size` gives the largest vocabulary that
    it supports; the tokenizer's own `vocab_size` tells, and a log line says so. Counting keeps at most about twice
    `max_distinct_words` different words: the rarest are forgotten. `make_segmenter`: prune phrases that it splits. ValueError for a
    vocabulary too small to hold all bytes, and for a corpus without any text.
    """
    _check_size(vocab_size)
    counts = count_words(texts, max_token_chars, max_distinct_words)
    return tokenizer_of(counts, vocab_size, character_coverage, max_token_chars, make_segmenter)


def train_on_counts(counts: Counter[str], vocab_size: int, training: TextTraining) -> Utf16Tokenizer:
    """The same from words that were counted before, in parts of `max_run_chars` characters."""
    _check_size(vocab_size)
    make = segmenter_of(training.segmenter) if training.prune else None
    return tokenizer_of(counts, vocab_size, training.character_coverage, MAX_TOKEN_CHARS, make)


def tokenizer_of(counts: Counter[str], vocab_size: int, character_coverage: float, max_token_chars: int,
                 make_segmenter: MakeSegmenter | None) -> Utf16Tokenizer:
    """The tokenizer that these counts of words make."""
    if not counts:
        raise ValueError("the tokenizer's texts are empty; give at least one with a character in it")
    log.info("text tokenizer: merging %d different words into %d tokens", len(counts), vocab_size)
    wanted = vocab_size - MIN_VOCAB_SIZE
    characters = common_characters(counts, character_coverage, int(CHARACTER_SHARE * wanted))
    above_all = 2 * sum(len(word) * n for word, n in counts.items())
    rows = {to_alphabet(word): n for word, n in counts.items()}
    rows |= {to_alphabet(c): above_all for c in characters}  # also a word on its own, or part of others: those counts no longer matter
    # a lone byte has no neighbour; with a small count, rounding of the trainer's coverage would drop it from the alphabet
    rows |= {chr(FIRST_BYTE + b): above_all for b in range(NUM_BYTES)}
    if make_segmenter is None:
        tokenizer = _fit_useful(rows, counts, vocab_size, max_token_chars)
    room = max(1, int(PRUNING_ROOM * wanted))
    while make_segmenter:
        full = _fit_useful(rows, counts, vocab_size + room, max_token_chars)
        tokenizer = prune(full, counts, wanted, make_segmenter)
        if tokenizer.vocab_size == vocab_size or full.vocab_size < vocab_size + room:
            break
        room *= 4
    if tokenizer.vocab_size < vocab_size:
        log.warning("text tokenizer: vocab_size = %d asked, but the corpus (%d different words) supports only %d; using %d",
                    vocab_size, len(counts), tokenizer.vocab_size, tokenizer.vocab_size)
    return tokenizer


def _check_size(vocab_size: int) -> None:
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(f"vocab_size = {vocab_size} must be at least {MIN_VOCAB_SIZE} ({NUM_SPECIAL_TOKENS} control tokens and "
                         f"{NUM_BYTES} bytes); 512 is enough for a toy corpus")


def common_characters(counts: Counter[str], coverage: float, at_most: int) -> list[str]:
    """The most frequent characters that together make up `coverage` of the text, no more than `at_most`."""
    seen: Counter[str] = Counter()
    for word, n in counts.items():
        for c in word:
            seen[c] += n
    wanted, covered, chosen = coverage * sum(seen.values()), 0, []
    for c, n in ranked(seen)[:at_most]:
        if covered >= wanted:
            break
        chosen.append(c)
        covered += n
    return chosen


def useful_merges(tokenizer: Utf16Tokenizer, counts: Counter[str]) -> int:
    """How many of the merges, in their order, it takes to write `counts`.

    When a corpus runs out of neighbours, the trainer goes on with pairs that no longer occur; those tokens would never be seen.
    """
    num_merges = tokenizer.vocab_size - MIN_VOCAB_SIZE  # merges come first in the vocabulary, then the bytes
    listed, last = list(counts), -1
    for start in range(0, len(listed), 10_000):
        ids = tokenizer.encode_words(listed[start : start + 10_000]) - NUM_SPECIAL_TOKENS
        last = max(last, int(ids[ids < num_merges].max(initial=-1)))
    return 1 + last


def _fit_useful(rows: dict[str, int], counts: Counter[str], vocab_size: int, max_token_chars: int) -> Utf16Tokenizer:
    """Without merges that the corpus never needs."""
    tokenizer = _fit(rows, vocab_size, max_token_chars)
    num_merges = useful_merges(tokenizer, counts)
    if num_merges < tokenizer.vocab_size - MIN_VOCAB_SIZE:
        tokenizer = _fit(rows, MIN_VOCAB_SIZE + num_merges, max_token_chars)
    return tokenizer


def _fit(rows: dict[str, int], vocab_size: int, max_token_chars: int) -> Utf16Tokenizer:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(f"{row}\t{rows[row]}" for row in sorted(rows)),
        model_writer=model,
        input_format="tsv",
        model_type="bpe",
        vocab_size=vocab_size - SHIFT,
        hard_vocab_limit=False,                          # a tiny corpus gives what it has
        character_coverage=1.0,                          # the bytes
        max_sentencepiece_length=4 * max_token_chars,    # in bytes: a character has two or four
        max_sentence_length=64 * max_token_chars,        # of UTF-8: three for each private character
        normalization_rule_name="identity",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        split_by_unicode_script=False,
        split_by_number=False,
        split_by_whitespace=False,
        unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1,
        num_threads=1,
        minloglevel=2,
    )
    return Utf16Tokenizer(model.getvalue())
