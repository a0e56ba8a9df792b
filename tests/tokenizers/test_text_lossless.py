"""Any text comes back: 100,000 seeded random strings over all of Unicode, halves of pairs included, and real text in 21 languages."""

import sys

import numpy as np
import pytest
from human_rights import ARTICLE_1

from ernie5.run.random_streams import stream
from ernie5.tokenizers.text import Utf16Tokenizer, words
from ernie5.tokenizers.text_training import train_text_tokenizer

BLOCKS = ((0x00, 0x20), (0x20, 0x7F), (0x7F, 0xA0), (0xA0, 0x250), (0x300, 0x370), (0x370, 0x1100), (0x0E00, 0x0F00), (0x2000, 0x2070),
          (0x3000, 0x3100), (0x4E00, 0xA000), (0xAC00, 0xD7B0), (0xD800, 0xE000), (0xE000, 0xF900), (0xFE00, 0x10000), (0x10000, 0x20000),
          (0x1F300, 0x1FA00), (0x20000, 0x30000), (0x30000, 0xF0000), (0xF0000, 0x110000), (0x0, 0x110000))


def random_texts(number: int, seed: int) -> list[str]:
    """Strings of up to 10 code points. Neighbours come from one block or from any; the last block is all of Unicode, unassigned too."""
    random = stream(seed, "random texts")
    lows, highs = np.array(BLOCKS).T
    lengths = random.integers(0, 11, number)
    block = np.repeat(random.integers(0, len(BLOCKS), number), lengths)
    mixed = np.repeat(random.random(number) < 0.5, lengths)
    block = np.where(mixed, random.integers(0, len(BLOCKS), len(block)), block)
    points = random.integers(lows[block], highs[block]).astype("<u4")
    everything, ends = points.tobytes().decode("utf-32-le", "surrogatepass"), np.cumsum(lengths).tolist()
    return [everything[start:end] for start, end in zip([0, *ends], ends, strict=False)]


def in_utf16(text: str) -> str:
    """What a string is to UTF-16, where a high and a low half side by side are one character."""
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "surrogatepass")


@pytest.fixture(scope="module")
def tokenizer() -> Utf16Tokenizer:
    return train_text_tokenizer(ARTICLE_1.values(), 2000)


def test_100_000_random_strings(tokenizer) -> None:
    texts = random_texts(100_000, seed=0)
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), "<u4")
    assert len(np.unique(points >> 16)) == 17 and np.count_nonzero((points >= 0xD800) & (points < 0xE000)) > 1000
    wrong = [text for text in texts if tokenizer.decode(tokenizer.encode(text)) != in_utf16(text)]
    assert not wrong, [text.encode("utf-32-be", "surrogatepass").hex(" ", 4) for text in wrong[:3]]
    assert "".join(words("".join(texts))) == "".join(texts)


def test_random_strings_under_dropout(tokenizer) -> None:
    for seed, text in enumerate(random_texts(3000, seed=1)):
        assert tokenizer.decode(tokenizer.encode(text, dropout=0.3, seed=seed)) == in_utf16(text)


def test_every_code_point(tokenizer) -> None:
    for start in range(0, sys.maxunicode + 1, 4096):
        for text in ("".join(map(chr, range(start, start + 4096))), " ".join(map(chr, range(start, start + 4096, 17)))):
            assert tokenizer.decode(tokenizer.encode(text)) == in_utf16(text)


@pytest.mark.parametrize("language", ARTICLE_1)
def test_real_text(tokenizer, language) -> None:
    text = ARTICLE_1[language]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode(text)) < 0.75 * len(text)
    assert tokenizer.decode(tokenizer.encode(text, dropout=0.5, seed=1)) == text


def test_words_that_are_kept_change_nothing(tokenizer) -> None:
    known = {language: tokenizer.encode(text).tolist() for language, text in ARTICLE_1.items()}
    fresh = Utf16Tokenizer(tokenizer.model)
    for language, text in reversed(ARTICLE_1.items()):
        assert fresh.encode(f"{text} {text}").tolist()[: len(known[language])] == known[language]
        assert fresh.encode(text).tolist() == known[language]
        joined = fresh.encode_words(words(text)).tolist()
        assert [i for i in joined if i >= 12] == known[language]
