"""BPE-dropout: the same in every process, plain BPE when nothing is left out, each merge left out with its probability."""

import hashlib
from collections import Counter
from itertools import repeat

import pytest
from human_rights import ARTICLE_1

from ernie5.run.random_streams import stream
from ernie5.tokenizers.text import Utf16Tokenizer, words
from ernie5.tokenizers.text_dropout import BpeDropout
from ernie5.tokenizers.text_training import train_text_tokenizer

# vocab_size: fingerprint, number of ids of all texts, hash of the ids, hash of the ids under dropout. Trained tokenizers must stay what
# they are, and dropout must be the same in every process; a change of either is a new FORMAT.
GOLDEN = {512: ("e47de59cd7f9ddc6", 2053, "9417cb63fb3c5cdc", "28d30e7a38c20854"),
          1000: ("24570986a1f6f659", 1338, "b8f4b235297c4994", "699342a467700703")}


@pytest.fixture(scope="module")
def tokenizer() -> Utf16Tokenizer:
    return train_text_tokenizer(ARTICLE_1.values(), 1000)


def short_hash(ids: list[int]) -> str:
    return hashlib.sha256(str(ids).encode()).hexdigest()[:16]


@pytest.mark.parametrize("vocab_size", GOLDEN)
def test_golden(vocab_size) -> None:
    tokenizer = train_text_tokenizer(ARTICLE_1.values(), vocab_size)
    plain = [i for text in ARTICLE_1.values() for i in tokenizer.encode(text).tolist()]
    dropped = [i for n, text in enumerate(ARTICLE_1.values()) for i in tokenizer.encode(text, 0.2, n).tolist()]
    assert (tokenizer.fingerprint, len(plain), short_hash(plain), short_hash(dropped)) == GOLDEN[vocab_size]


def test_with_nothing_left_out_it_is_plain_bpe(tokenizer) -> None:
    dropout = BpeDropout(tokenizer.piece_bytes)
    for word in {word for text in ARTICLE_1.values() for word in words(text)}:
        merged = [dropout.number[part] + 12 for part in dropout.merge(dropout.parts(word), repeat(False))]
        assert merged == tokenizer.encode(word).tolist(), word
        assert len(dropout.merge(dropout.parts(word), repeat(True))) == len(dropout.parts(word))


def test_characters_stay_whole(tokenizer) -> None:
    known = BpeDropout(tokenizer.piece_bytes)
    text = "".join(c for c in ARTICLE_1["Chinese"] + ARTICLE_1["Greek"] if len(known.parts(c)) == 1)
    assert len(set(text)) > 30
    for seed in range(20):
        assert all(len(tokenizer.piece_bytes[i - 12]) % 2 == 0 for i in tokenizer.encode(text, 0.9, seed).tolist())


def test_every_merge_is_left_out_with_its_probability(tokenizer) -> None:
    """Against merging with a number drawn for each merge, which is what the single number of a word stands for."""
    dropout, word, rate, number = BpeDropout(tokenizer.piece_bytes), " dignity", 0.25, 4000
    plain = tokenizer.encode(word).numpy() - 12
    assert len(dropout.parts(word)) - len(plain) >= 5
    ours = Counter(cut for seed in range(number // 20) for cut in cuts_of(dropout, word, plain, rate, seed))
    random = stream(0, "reference")
    draw = lambda: dropout.merge(dropout.parts(word), (float(x) < rate for x in random.random(99)))  # noqa: E731
    reference = Counter(tuple(map(dropout.number.__getitem__, draw())) for _ in range(number))
    assert len(reference) > 8
    for cut, times in reference.most_common(8):
        assert abs(ours[cut] - times) < 5 * (2 * times) ** 0.5, (cut, ours[cut], times)


def cuts_of(dropout: BpeDropout, word: str, plain, rate: float, seed: int) -> list[tuple[int, ...]]:
    """Twenty cuts of a word, drawn from one seed."""
    ids, cuts, cut, length = dropout.encode([word] * 20, [plain] * 20, rate, seed), [], [], 0
    sizes = {number: len(piece) for piece, number in dropout.number.items()}
    for i in ids:
        cut.append(i)
        length += sizes[i]
        if length == 2 * len(word):
            cuts.append(tuple(cut))
            cut, length = [], 0
    return cuts
