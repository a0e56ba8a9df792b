"""Text as tokens: byte-pair encoding over UTF-16BE.

    text --PRETOKEN--> words --UTF-16BE--> bytes --one private character a byte--> sentencepiece BPE --> ids

Every text can be written (256 byte tokens are always in the vocabulary) and read back exactly, lone surrogates and control
characters included. No token crosses a word border: a space belongs to the word after it, so ` circle` is one token. The border is a
character that is not in the vocabulary; it stops merges, and its id is dropped.

    id = NUM_SPECIAL_TOKENS + sentencepiece id - 1            (sentencepiece id 0 is its <unk>, here the border)

Report: §3.1 (UTF-16BE, BPE dropout). Ours: the word pattern, the private alphabet.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import sentencepiece
import torch
from torch import Tensor

from ernie5.sequence import Modality
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS
from ernie5.tokenizers.text_dropout import BpeDropout

# Letters (with the vowel signs and accents that Python counts as no letters) and the space before them; up to three digits;
# punctuation; white space. Together they match every character once.
SIGN = r"(?:(?![\d\s])[\u0300-\u1fff\u200c\u200d])"
PRETOKEN = re.compile(rf" ?[^\W\d_]+(?:{SIGN}+[^\W\d_]*)*| ?\d{{1,3}}| ?(?:[^\s\w]|_)+|\s+(?!\S)|\s")
NUM_BYTES = 256
FIRST_BYTE = 0xE000      # byte b is the character U+E000 + b
BORDER = "\uf8ff"        # stands between words, never in the vocabulary
SHIFT = NUM_SPECIAL_TOKENS - 1
MAX_KNOWN, MAX_KNOWN_CHARS = 2**16, 24  # words whose ids are kept, at most 15 MB
FORMAT = "ernie5-text-utf16be-1"
MODEL_FILE, INFO_FILE = "text.model", "text.json"


def words(text: str) -> list[str]:
    """The parts that tokens never cross; joined, they are `text`."""
    return PRETOKEN.findall(text)


@lru_cache(maxsize=2**16)  # most words of a text were seen before
def to_alphabet(text: str) -> str:
    """UTF-16BE bytes as private characters."""
    return text.encode("utf-16-be", "surrogatepass").decode("latin-1").translate(_TO_PRIVATE)


def printable(text: str) -> str:
    """`text` with lone surrogates, which a sampling model may produce and UTF-8 cannot write, as U+FFFD."""
    return text.encode("utf-16-be", "surrogatepass").decode("utf-16-be", "replace")


class Utf16Tokenizer:
    """A trained text tokenizer (`TextTokenizer`). Make one with `train_text_tokenizer` or `load`.

    `model` is a serialized sentencepiece model whose pieces are made of the private alphabet. ValueError when it is not.
    """

    modality = Modality.TEXT

    def __init__(self, model: bytes) -> None:
        self.model = model
        self.processor = sentencepiece.SentencePieceProcessor(model_proto=model)
        pieces = [self.processor.id_to_piece(i) for i in range(1, self.processor.vocab_size())]
        if any(ord(c) - FIRST_BYTE not in range(NUM_BYTES) for piece in pieces for c in piece) or len(set(pieces) & _ALPHABET) < NUM_BYTES:
            raise ValueError("this sentencepiece model was not trained by ernie5: its pieces must be made of U+E000..U+E0FF and include "
                             "each of them; train one with `ernie5 tokenizer train RECIPE`")
        self.piece_bytes = [bytes(ord(c) - FIRST_BYTE for c in piece) for piece in pieces]  # of id - NUM_SPECIAL_TOKENS
        self._bytes_of = [b""] * NUM_SPECIAL_TOKENS + self.piece_bytes                      # of an id
        self._known: dict[str, bytes] = {}  # ids of words, as the bytes of int64s: most words of a text were seen before

    @property
    def vocab_size(self) -> int:
        """Number of ids, the control tokens 0..NUM_SPECIAL_TOKENS - 1 included."""
        return NUM_SPECIAL_TOKENS + len(self.piece_bytes)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits: equal exactly when two tokenizers give the same ids."""
        digest = hashlib.sha256(f"{FORMAT} {PRETOKEN.pattern}".encode())
        for piece in self.piece_bytes:  # the order of pieces is the order of merges
            digest.update(len(piece).to_bytes(4, "big") + piece)
        return digest.hexdigest()[:16]

    def encode(self, text: str, dropout: float = 0.0, seed: int = 0) -> Tensor:
        """`text` -> ids `n` (int64), without control tokens.

        `dropout` in [0, 1): each merge is left out with this probability (BPE-dropout, text_dropout.py), drawn from `seed` alone:
        the same arguments give the same ids in any process. ValueError for a dropout outside its range.
        """
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"dropout = {dropout} must be at least 0 and below 1; 0.1 is usual in training, 0 everywhere else")
        parts = words(text)
        if dropout == 0:
            return torch.from_numpy(np.frombuffer(bytearray(b"".join(self._ids_of(parts))), np.int64))
        plain = [np.frombuffer(ids, np.int64) - NUM_SPECIAL_TOKENS for ids in self._ids_of(parts)]
        return torch.tensor(self._dropout.encode(parts, plain, dropout, seed), dtype=torch.int64) + NUM_SPECIAL_TOKENS

    @cached_property
    def _dropout(self) -> BpeDropout:
        return BpeDropout(self.piece_bytes)

    def _ids_of(self, parts: list[str]) -> Iterable[bytes]:
        """The ids of each word, as the bytes of int64s."""
        known = self._known
        if len(known) > MAX_KNOWN:
            known = self._known = {}  # another thread may still be reading the old one
        new = [word for word in dict.fromkeys(parts) if word not in known]
        if not new:
            return map(known.__getitem__, parts)
        fresh = dict(zip(new, self._one_by_one(new), strict=True))
        known.update((word, ids) for word, ids in fresh.items() if len(word) <= MAX_KNOWN_CHARS)
        return [fresh.get(word) or known[word] for word in parts] if len(fresh) < len(parts) else fresh.values()

    def _one_by_one(self, parts: list[str]) -> Iterator[bytes]:
        ids = self.encode_words(parts)
        start, data = 0, ids.tobytes()
        for border in (*np.flatnonzero(ids == SHIFT).tolist(), len(ids)):
            yield data[8 * start : 8 * border]
            start = border + 1

    def encode_words(self, parts: list[str]) -> np.ndarray:
        """The ids of words in a row (int64); SHIFT, a control token's, stands between them."""
        return np.array(self.processor.encode(BORDER.join(map(to_alphabet, parts))), np.int64) + SHIFT

    def decode(self, ids: Tensor | Iterable[int]) -> str:
        """ids -> text. Control tokens are skipped. ValueError for an id outside the vocabulary.

        Exact for what `encode` gave. A sampling model may stop between the two bytes of a character: the odd byte becomes U+FFFD.
        Surrogates without their other half stay as they are; pass the text through `printable` before writing it anywhere.
        """
        listed = ids.tolist() if isinstance(ids, Tensor) else [int(i) for i in ids]
        if listed and not 0 <= min(listed) <= max(listed) < self.vocab_size:
            outside = next(i for i in listed if not 0 <= i < self.vocab_size)
            raise ValueError(f"token id {outside} must lie between 0 and vocab_size - 1 = {self.vocab_size - 1}; "
                             "were these ids made with another tokenizer?")
        data = b"".join(map(self._bytes_of.__getitem__, listed))
        even = len(data) - len(data) % 2
        return data[:even].decode("utf-16-be", "surrogatepass") + "\ufffd" * (len(data) % 2)

    def token_text(self, token: int) -> str:
        """One token for people: its text, or its bytes as `<00 e4>` when it is not whole characters."""
        if token < NUM_SPECIAL_TOKENS:
            return f"<control {token}>"
        try:
            return self.piece_bytes[token - NUM_SPECIAL_TOKENS].decode("utf-16-be")
        except UnicodeDecodeError:
            return f"<{self.piece_bytes[token - NUM_SPECIAL_TOKENS].hex(' ')}>"

    def save(self, folder: str | Path) -> None:
        """Write `text.model` (sentencepiece) and `text.json` (what it is, for people and for `load`) into `folder`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MODEL_FILE).write_bytes(self.model)
        info = {"format": FORMAT, "vocab_size": self.vocab_size, "fingerprint": self.fingerprint}
        (folder / INFO_FILE).write_text(json.dumps(info, indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: str | Path) -> Utf16Tokenizer:
        """What `save` wrote. FileNotFoundError when it is not there, ValueError when it is damaged or of another format."""
        folder = Path(folder)
        try:
            info = json.loads((folder / INFO_FILE).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{folder / INFO_FILE} is not JSON ({error}); it is damaged, train the tokenizer again") from error
        if info.get("format") != FORMAT:
            raise ValueError(f"{folder / INFO_FILE}: format = {info.get('format')!r} must be {FORMAT!r}; train the tokenizer again")
        model = (folder / MODEL_FILE).read_bytes()
        try:
            tokenizer = cls(model)
        except RuntimeError as error:
            raise ValueError(f"{folder / MODEL_FILE} is not a sentencepiece model; it is damaged, train the tokenizer again") from error
        if tokenizer.fingerprint != info.get("fingerprint"):
            raise ValueError(f"{folder / MODEL_FILE} has fingerprint {tokenizer.fingerprint}, but {INFO_FILE} says "
                             f"{info.get('fingerprint')}; one of the two is from another tokenizer, train it again")
        return tokenizer


_TO_PRIVATE = {b: FIRST_BYTE + b for b in range(NUM_BYTES)}
_ALPHABET = {chr(c) for c in _TO_PRIVATE.values()}
