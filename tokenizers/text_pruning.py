"""Phrases leave the vocabulary: tokens of unspaced scripts that a word segmenter can split. Other merges take their places.

A token stays when a token that stays is merged from it, so that each of those can still be reached; texts are then encoded as if the
others had never been there, without any segmenter. Report: §3.1. Ours: which tokens are looked at, and the order of the work: merges from
the last to the first, then as many as the vocabulary holds, the most frequent first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from sentencepiece import sentencepiece_model_pb2

from ernie5.run.parts import load_function
from ernie5.tokenizers.text import NUM_BYTES, Utf16Tokenizer
from ernie5.tokenizers.text_segment import RUN, BranchingEntropy, Segmenter, units

MIN_UNITS = 4  # shorter tokens are words, or as good as words
MakeSegmenter = Callable[[Counter[str], list[str]], Segmenter]  # from the counts of words, for these phrases


def segmenter_of(name: str | None) -> MakeSegmenter:
    """`module:callable` (str -> list of str, for example jieba:lcut), or None: the one that learns from the counts."""
    if name is None:
        return BranchingEntropy
    own = load_function(name)
    return lambda counts, phrases: own


def prune(tokenizer: Utf16Tokenizer, counts: Counter[str], num_merges: int, make: MakeSegmenter) -> Utf16Tokenizer:
    """At most `num_merges` merges of `tokenizer`, phrases left out. Fewer when `tokenizer` has no more to offer."""
    pieces = tokenizer.piece_bytes[: len(tokenizer.piece_bytes) - NUM_BYTES]  # merges, in their order; bytes follow
    phrases = {piece: phrase for piece in pieces if (phrase := phrase_of(piece))}
    split = make(counts, list(dict.fromkeys(phrases.values())))
    words = {phrase: [part for part in split(phrase) if part] for phrase in set(phrases.values())}
    splits = {piece for piece, phrase in phrases.items() if len(words[phrase]) > 1}
    halves = merged_from(pieces)
    looked_at = 0
    kept: list[int] = []
    while len(kept) < num_merges and looked_at < len(pieces):
        looked_at = min(len(pieces), looked_at + num_merges - len(kept))
        kept = _kept(pieces[:looked_at], splits, halves)
    return without(tokenizer, set(range(len(pieces))) - set(kept[:num_merges]))


def phrase_of(piece: bytes) -> str | None:
    """The text of a token that is a run of an unspaced script, long enough to be a phrase; the space before it does not count."""
    try:
        text = piece.decode("utf-16-be").removeprefix(" ")
    except UnicodeDecodeError:
        return None
    return text if RUN.fullmatch(text) and len(units(text)) >= MIN_UNITS else None


def merged_from(pieces: Sequence[bytes]) -> dict[bytes, tuple[bytes, ...]]:
    """Each merge -> the two parts that it joins: what BPE has of it one step before the end. More where BPE never makes it."""
    rank = {piece: number for number, piece in enumerate(pieces)}
    halves = {}
    for piece in pieces:
        parts = [piece[i : i + 1] for i in range(len(piece))]
        while len(parts) > 2:
            at = min(range(len(parts) - 1), key=lambda i: (rank.get(parts[i] + parts[i + 1], len(rank)), i))
            if parts[at] + parts[at + 1] not in rank:
                break
            parts[at : at + 2] = [parts[at] + parts[at + 1]]
        halves[piece] = tuple(parts)
    return halves


def without(tokenizer: Utf16Tokenizer, numbers: set[int]) -> Utf16Tokenizer:
    """The tokenizer without these of its tokens (id - NUM_SPECIAL_TOKENS)."""
    model = sentencepiece_model_pb2.ModelProto.FromString(tokenizer.model)  # type: ignore[attr-defined]
    kept = [piece for number, piece in enumerate(model.pieces, start=-1) if number not in numbers]  # piece 0 is <unk>
    del model.pieces[:]
    model.pieces.extend(kept)
    model.trainer_spec.vocab_size = len(kept)
    return Utf16Tokenizer(model.SerializeToString(deterministic=True))


def _kept(pieces: Sequence[bytes], splits: set[bytes], halves: dict[bytes, tuple[bytes, ...]]) -> list[int]:
    needed: set[bytes] = set()
    kept = []
    for number in range(len(pieces) - 1, -1, -1):
        if pieces[number] in needed or pieces[number] not in splits:
            kept.append(number)
            needed.update(halves[pieces[number]])
    return kept[::-1]
