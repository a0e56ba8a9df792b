"""BPE-dropout in training: in every draw a text is cut into other tokens, so that the model also learns the parts of frequent words.

    codes of the texts of a draw = encode(text, dropout, seed = stream(run seed, "text dropout", number of the draw))

A pure function of the draw, like roles and history: exact on resume, the same for any ranks and workers. Codes of media stay those of the
place; lengths are those of the draw (`SampleMaker.shape_key`), so every rank encodes the texts of the whole global batch. Held-out data and
generation never drop. Report: §3.1 (BPE dropout; its rate is not stated, 0.1 is usual). Ours: how it is drawn.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace

from ernie5.data_pipelines.encode import CodedSample
from ernie5.run.random_streams import stream
from ernie5.sequence import Modality
from ernie5.tokenizers.base import TextTokenizer


@dataclass(frozen=True)
class TextDropout:
    """`rate` in (0, 1): each merge is left out with this probability. ValueError for a `text` tokenizer that cannot."""

    text: TextTokenizer
    rate: float
    seed: int

    def __post_init__(self) -> None:
        if not {"dropout", "seed"} <= inspect.signature(self.text.encode).parameters.keys():
            raise ValueError(f"data.text_dropout = {self.rate} needs a text tokenizer with encode(text, dropout, seed), but "
                             f"{type(self.text).__name__} has none; use data.text_dropout = 0")

    def of(self, coded: CodedSample, number: int) -> CodedSample:
        """`coded` as draw `number` shows it; a sample that is already of this draw comes back as it is."""
        if coded.draw == number:
            return coded
        seeds = stream(self.seed, "text dropout", number).integers(2**31, size=len(coded.codes)).tolist()
        parts = zip(coded.sample.segments, coded.codes, seeds, strict=True)
        codes = tuple(self.text.encode(s.media, dropout=self.rate, seed=seed) if s.modality is Modality.TEXT else code  # type: ignore[call-arg]
                      for s, code, seed in parts)
        return replace(coded, codes=codes, draw=number)
