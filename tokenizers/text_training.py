"""Training of the text tokenizer: count words, then merge the most frequent neighbours (sentencepiece's BPE trainer).

Only counts go to the trainer, so memory is bounded by the number of different words, not by the size of the corpus. In UTF-16BE
every Latin letter begins with the byte 00, so plain counting would merge a letter with the 00 of the next one. Whole characters
are therefore merged first: the commonest ones, which make up `character_coverage` of the text, are added as words of their own with a
count that nothing exceeds. Every token of ordinary text is then a whole number of characters. Rare characters stay bytes.

Report: §3.1. Ours: whole characters first. Pruning of long unspaced phrases comes with the pruning of the vocabulary.
"""

from __future__ import annotations

import io
import logging
from collections import Counter
from collections.abc import Iterable

import sentencepiece

from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS
from ernie5.tokenizers.text import FIRST_BYTE, NUM_BYTES, SHIFT, Utf16Tokenizer, to_alphabet, words

MIN_VOCAB_SIZE = NUM_SPECIAL_TOKENS + NUM_BYTES
CHARACTER_SHARE = 0.5  # at most this part of the merges makes single characters
log = logging.getLogger(__name__)


def train_text_tokenizer(
    texts: Iterable[str],
    vocab_size: int,
    *,
    character_coverage: float = 0.9995,
    max_token_chars: int = 24,
    max_distinct_words: int = 2_000_000,
) -> Utf16Tokenizer:
    """Learn a vocabulary of at most `vocab_size` ids (control tokens included) from `texts`, read once.

    The same texts in the same order give the same tokenizer. A corpus too small for `vocab_size` gives the largest vocabulary that
    it supports; the tokenizer's own `vocab_size` tells, and a log line says so. Counting keeps at most about twice
    `max_distinct_words` different words: the rarest are forgotten. ValueError for a vocabulary too small to hold all
    bytes, and for a corpus without any text.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise ValueError(f"vocab_size = {vocab_size} must be at least {MIN_VOCAB_SIZE} ({NUM_SPECIAL_TOKENS} control tokens and "
                         f"{NUM_BYTES} bytes); 512 is enough for a toy corpus")
    counts = count_words(texts, max_token_chars, max_distinct_words)
    if not counts:
        raise ValueError("the tokenizer's texts are empty; give at least one with a character in it")
    max_characters = int(CHARACTER_SHARE * (vocab_size - MIN_VOCAB_SIZE))
    characters = common_characters(counts, character_coverage, max_characters)
    above_all = 2 * sum(len(word) * n for word, n in counts.items())
    rows = {to_alphabet(word): n for word, n in counts.items()}
    rows |= {to_alphabet(c): above_all for c in characters}  # also a word on its own, or part of others: those counts no longer matter
    # a lone byte has no neighbour; with a small count, rounding of the trainer's coverage would drop it from the alphabet
    rows |= {chr(FIRST_BYTE + b): above_all for b in range(NUM_BYTES)}
    tokenizer = _fit(rows, vocab_size, max_token_chars)
    num_merges = useful_merges(tokenizer, counts)
    if num_merges < tokenizer.vocab_size - MIN_VOCAB_SIZE:
        tokenizer = _fit(rows, MIN_VOCAB_SIZE + num_merges, max_token_chars)
    if tokenizer.vocab_size < vocab_size:
        log.warning("text tokenizer: vocab_size = %d asked, but the corpus (%d different words) supports only %d; using %d",
                    vocab_size, len(counts), tokenizer.vocab_size, tokenizer.vocab_size)
    return tokenizer


def count_words(texts: Iterable[str], max_chars: int, max_distinct: int) -> Counter[str]:
    """How often each word stands in `texts`; longer words (unspaced scripts) are cut into parts of `max_chars`."""
    counts: Counter[str] = Counter()
    for text in texts:
        for word in words(text):
            counts.update(word[i:i + max_chars] for i in range(0, len(word), max_chars))
        if len(counts) > 2 * max_distinct:
            counts = Counter(dict(_ranked(counts)[:max_distinct]))
    return counts


def common_characters(counts: Counter[str], coverage: float, at_most: int) -> list[str]:
    """The most frequent characters that together make up `coverage` of the text, no more than `at_most`."""
    seen: Counter[str] = Counter()
    for word, n in counts.items():
        for c in word:
            seen[c] += n
    wanted, covered, chosen = coverage * sum(seen.values()), 0, []
    for c, n in _ranked(seen)[:at_most]:
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
    ids = (i - NUM_SPECIAL_TOKENS for word in counts for i in tokenizer.encode(word).tolist())
    return 1 + max((i for i in ids if i < num_merges), default=-1)


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


def _ranked(counts: Counter[str]) -> list[tuple[str, int]]:
    """Most frequent first, equal counts by code points: `Counter.most_common` would follow the order of the texts."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
