"""All measures of a text tokenizer.

    tokens / bytes of UTF-8, tokens / characters (code points)        exact: decode(encode(text)) == text
    byte tokens: single bytes, half of a UTF-16 character             vocabulary: distinct tokens in use / vocab_size
    speed: megabytes (UTF-8) and tokens per second of `encode` and `decode`
Ours.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch

from ernie5.measure.code_usage import codebook_usage
from ernie5.measure.media import Medium, Rejected
from ernie5.run.progress import Progress
from ernie5.tokenizers.special_tokens import NUM_SPECIAL_TOKENS


@dataclass
class TextRun:
    """Everything that was seen of the texts."""

    tokenizer: Any
    texts: list[dict] = field(default_factory=list)
    counts: torch.Tensor | None = None
    inexact: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})
    shown: list[tuple[str, list[str]]] = field(default_factory=list)

    def add(self, medium: Medium) -> None:
        """Measure one text."""
        text: str = medium.media
        start = time.perf_counter()
        ids = self.tokenizer.encode(text)
        encoded = time.perf_counter()
        back = self.tokenizer.decode(ids)
        self.seconds["decode"] += time.perf_counter() - encoded
        self.seconds["encode"] += encoded - start
        if back != text:
            self.inexact.append(medium.name)
        counts = ids.bincount(minlength=self.tokenizer.vocab_size)
        self.counts = counts if self.counts is None else self.counts + counts
        num_bytes = len(text.encode("utf-8", "surrogatepass"))
        self.texts.append({"name": medium.name, "characters": len(text), "bytes": num_bytes, "tokens": len(ids)})
        if len(self.shown) < 6:
            name = getattr(self.tokenizer, "token_text", str)
            self.shown.append((medium.name, [name(int(i)) for i in ids[:120]]))

    def result(self) -> dict:
        """What goes into the result file."""
        characters, num_bytes, tokens = (sum(t[key] for t in self.texts) for key in ("characters", "bytes", "tokens"))
        assert self.counts is not None
        size = self.tokenizer.vocab_size
        used = codebook_usage(torch.repeat_interleave(torch.arange(size), self.counts), size)
        partial = self._byte_tokens()
        return {
            "num": len(self.texts), "bytes": num_bytes, "characters": characters, "tokens": tokens,
            "tokens_per_byte": tokens / num_bytes, "tokens_per_character": tokens / characters,
            "bits_per_byte": tokens * used.entropy_bits / num_bytes,
            "exact_share": 1 - len(self.inexact) / len(self.texts), "inexact": self.inexact[:20],
            "byte_token_share": int(self.counts[partial].sum()) / max(1, tokens) if partial is not None else None,
            "usage": {**used.plain, "codes": size, "control_tokens": NUM_SPECIAL_TOKENS},
            "speed": {"encode_megabytes_per_s": num_bytes / 1e6 / self.seconds["encode"],
                      "encode_tokens_per_s": tokens / self.seconds["encode"],
                      "decode_megabytes_per_s": num_bytes / 1e6 / self.seconds["decode"], "threads": 1},
            "media": self.texts,
        }

    def _byte_tokens(self) -> torch.Tensor | None:
        """Ids of the tokens that are no whole characters; None where the tokenizer does not say what its tokens are made of."""
        pieces = getattr(self.tokenizer, "piece_bytes", None)
        if pieces is None:
            return None
        return torch.tensor([NUM_SPECIAL_TOKENS + i for i, piece in enumerate(pieces) if len(piece) == 1], dtype=torch.int64)


def measure_text(tokenizer: Any, media: Iterable[Medium], rejected: Rejected, bar: Progress) -> TextRun:
    """Everything that texts show. What the tokenizer refuses is listed."""
    run = TextRun(tokenizer)
    for _ in rejected.taken(media, run.add):
        bar.advance(1)
    return run
