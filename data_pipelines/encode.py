"""Samples -> coded segments, each medium encoded alone so that its codes never depend on its neighbours in a batch.

Results are kept in memory up to a bound, least recently used first out: small corpora are encoded once. The kept value is the same as a
fresh one, so what the cache holds never changes a batch.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from threading import Lock

import torch
from torch import Tensor

from ernie5.sequence import Modality, Sample
from ernie5.tokenizers.base import AudioTokenizer, TextTokenizer, Tokenizer, VisionBits, VisionCodes, VisionTokenizer


@dataclass(frozen=True)
class Tokenizers:
    """One tokenizer per kind of medium; images and clips share one."""

    text: TextTokenizer
    vision: VisionTokenizer
    audio: AudioTokenizer

    def of(self, modality: Modality) -> Tokenizer:
        match modality:
            case Modality.TEXT:
                return self.text
            case Modality.AUDIO:
                return self.audio
            case Modality.IMAGE | Modality.VIDEO:
                return self.vision


@dataclass(frozen=True)
class CodedSample:
    """A sample and the codes of its segments, in order. `draw`: the one whose dropout its texts have (text_dropout.py), None = none."""

    sample: Sample
    codes: tuple[Tensor | VisionCodes | VisionBits, ...]
    draw: int | None = None

    @property
    def num_bytes(self) -> int:
        tensors: list[Tensor] = [x for s in self.sample.segments for x in (s.media, s.speaker) if isinstance(x, Tensor)]
        for code in self.codes:
            tensors += [code] if isinstance(code, Tensor) else [*vars(code).values()]
        return sum(t.numel() * t.element_size() for t in tensors) + 1024


class Encoder:
    """`encode(sample)`; sounds keep only their codes, pictures keep their pixels (the understanding path reads them)."""

    def __init__(self, tokenizers: Tokenizers, cache_gib: float = 1.0) -> None:
        self.tokenizers = tokenizers
        self.room = int(cache_gib * 2**30)
        self.kept: OrderedDict[str, CodedSample] = OrderedDict()
        self.lock = Lock()  # threads may encode at once; what is kept changes in one of them at a time

    def recall(self, key: str) -> CodedSample | None:
        """A kept result, by the caller's key."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
            return self.kept.get(key)

    def encode(self, key: str, sample: Sample | CodedSample) -> CodedSample:
        """Encode every segment and keep the result under `key`."""
        coded = self.code(sample)
        self.keep(key, coded)
        return coded

    @torch.no_grad()
    def code(self, sample: Sample | CodedSample) -> CodedSample:
        """Encode every segment; what is kept is neither asked nor changed. A sample of tokenized shards has its codes."""
        if isinstance(sample, CodedSample):
            return sample
        return CodedSample(sample, tuple(self.tokenizers.of(s.modality).encode(s.media) for s in sample.segments))

    def keep(self, key: str, coded: CodedSample) -> None:
        """Keep a result under `key`, as long as there is room."""
        with self.lock:
            if key in self.kept:
                self.room += self.kept[key].num_bytes
            self.kept[key] = coded
            self.room -= coded.num_bytes
            while self.room < 0 and len(self.kept) > 1:
                _, oldest = self.kept.popitem(last=False)
                self.room += oldest.num_bytes
