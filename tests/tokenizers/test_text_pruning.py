"""Phrases of unspaced scripts leave the vocabulary, words and what they are merged from stay, and other merges take their places."""

import pytest

from ernie5.run.random_streams import stream
from ernie5.tokenizers.text import Utf16Tokenizer
from ernie5.tokenizers.text_counting import count_words
from ernie5.tokenizers.text_pruning import merged_from, phrase_of, prune, segmenter_of
from ernie5.tokenizers.text_segment import BranchingEntropy, icu_words, units
from ernie5.tokenizers.text_training import MIN_VOCAB_SIZE, TextTraining, train_on_counts, train_text_tokenizer

CHINESE = "自由 平等 尊严 权利 人人 理性 良心 兄弟 精神 关系 对待 赋有 一律 生而 我们 他们".split()
THAI = "มนุษย์ อิสระ เสมอภาค เกียรติ สิทธิ เหตุผล กระทำ เจตนา ภราดร ต่าง ทั้งหลาย เกิดมา".split()


def corpus(words: list[str], num_texts: int = 400) -> list[str]:
    """Lines of words without spaces; the first two of the list stand side by side more often than chance."""
    random = stream(0, "unspaced", words[0])
    lines = []
    for _ in range(num_texts):
        line = [words[int(i)] for i in random.integers(0, len(words), 6)]
        lines.append("".join([*line, *words[: 2 * (len(lines) % 4 == 0)], *line[:3]]) + ".")
    return lines


TEXTS = [*corpus(CHINESE), *corpus(THAI), *(f"word{i % 40:02d} and more of them {i % 25}." for i in range(400))]
COUNTS = count_words(TEXTS, 24, 10**6)


def texts_of(tokenizer: Utf16Tokenizer) -> list[str]:
    return [tokenizer.token_text(i) for i in range(12, tokenizer.vocab_size - 256)]


def by_list(phrase: str) -> list[str]:
    """A segmenter that knows the words."""
    for word in (*CHINESE, *THAI):
        if phrase != word and word in phrase:
            return [part for part in phrase.partition(word) if part]
    return [phrase]


@pytest.fixture(scope="module")
def plain() -> Utf16Tokenizer:
    return train_text_tokenizer(TEXTS, 480)


@pytest.fixture(scope="module", params=[None, "test_text_pruning:by_list"], ids=["learnt", "own"])
def pruned(request) -> Utf16Tokenizer:
    return train_on_counts(COUNTS.copy(), 480, TextTraining(prune=True, segmenter=request.param))


def test_phrases_leave_and_others_take_their_places(plain, pruned) -> None:
    before, after = texts_of(plain), texts_of(pruned)
    assert "自由平等" in before and "มนุษย์อิสระ" in before
    assert "自由平等" not in after and "มนุษย์อิสระ" not in after
    assert pruned.vocab_size == plain.vocab_size == 480 and set(after) - set(before)
    assert [t for t in before if t in set(after)] == [t for t in after if t in set(before)]  # in the same order
    assert {" word", " and", " them"} <= set(after) or {"word", " and", " them"} <= set(after)


def test_every_token_that_stays_can_be_reached(pruned) -> None:
    for number in range(480 - MIN_VOCAB_SIZE):
        text = pruned.piece_bytes[number].decode("utf-16-be", "surrogatepass") if len(pruned.piece_bytes[number]) % 2 == 0 else None
        if text:
            assert pruned.encode_words([text]).tolist() == [number + 12]


def test_words_stay_tokens_and_texts_come_back(pruned) -> None:
    for word in CHINESE[:4]:
        assert len(pruned.encode(word)) == 1, word
    for text in TEXTS[::50]:
        assert pruned.decode(pruned.encode(text)) == text


def test_words_that_are_merged_from_phrases_keep_them(plain) -> None:
    longest = max((p for p in map(phrase_of, plain.piece_bytes) if p), key=len)
    split = lambda phrase: [phrase] if phrase == longest else list(phrase)  # noqa: E731
    only = prune(plain, COUNTS, 480 - MIN_VOCAB_SIZE, lambda counts, phrases: split)
    assert only.encode_words([longest]).shape == (1,)
    halves = merged_from(plain.piece_bytes[:-256])
    assert all(b"".join(parts) == whole and len(parts) == 2 for whole, parts in halves.items())


def test_the_learnt_segmenter_finds_words() -> None:
    phrases = ["自由平等", "我们他们", "มนุษย์อิสระ", "สิทธิเหตุผล", "เสมอภาค", "ทั้งหลาย"]
    split = BranchingEntropy(COUNTS, phrases)
    found = [split(phrase) for phrase in phrases]
    assert found == [["自由", "平等"], ["我们", "他们"], ["มนุษย์", "อิสระ"], ["สิทธิ", "เหตุผล"], ["เสมอภาค"], ["ทั้งหลาย"]]


def test_units_keep_letters_and_signs_together() -> None:
    assert units("เกียรติ") == ["เกี", "ย", "ร", "ติ"] and units("น้ำตา") == ["น้ำ", "ตา"]
    assert units("ស្រី") == ["ស្រី"] and units("自由") == ["自", "由"] and units("") == []


def test_what_counts_as_a_phrase() -> None:
    phrases = ["自由平等", " 自由平等", "自由", "free", "自由free", "мир и труд", "เกียรติ"]
    assert [phrase_of(p.encode("utf-16-be")) for p in phrases] == ["自由平等", "自由平等", None, None, None, None, "เกียรติ"]
    assert phrase_of(b"\xd8") is None


def test_mistakes_are_named() -> None:
    with pytest.raises(ValueError, match="no function words_of; did you mean"):
        segmenter_of("ernie5.tokenizers.text_segment:words_of")
    with pytest.raises(ValueError, match="no use without prune"):
        TextTraining(segmenter="jieba:lcut")
    with pytest.raises(ValueError, match="max_words = 0 must be at least 1"):
        TextTraining(max_words=0)
    with pytest.raises(ValueError, match="max_run_chars = 129 must be 24 to 128"):
        TextTraining(max_run_chars=129)
    with pytest.raises(ValueError, match="character_coverage = 0"):
        TextTraining(character_coverage=0)


def test_dictionaries_of_icu() -> None:
    pytest.importorskip("icu", reason="icukit-pyicu or PyICU is not installed")
    assert icu_words("ไม่สามารถเลือกข้อความ") == ["ไม่", "สามารถ", "เลือก", "ข้อความ"]
    assert icu_words("𠮷野家は")[-1] == "は" and "".join(icu_words("𠮷野家は")) == "𠮷野家は"
