"""The first samples of some sources as packed batches, to look at a trained model: no flips, no dropped frames, no dropped prompts.

Roles are drawn by sample number with the odds of the recipe, so the same samples give the same batches, and both roles of a medium occur
once there are a few samples. Damaged samples are left out: training reports them. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from ernie5.data_pipelines.collate import PackedSample, collate
from ernie5.data_pipelines.encode import Encoder
from ernie5.data_pipelines.loader import SampleMaker
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.packing import Packer, cut
from ernie5.generate.generator import Generator
from ernie5.sequence import PackedSequence
from ernie5.train.prepare import Corpus

ROWS = 8


def num_samples(corpus: Corpus, at_most: int) -> int:
    """How many samples `batches_of` looks at."""
    return sum(min(at_most, len(source)) for source in corpus.sources.values())


def batches_of(corpus: Corpus, generator: Generator, at_most: int) -> Iterator[PackedSequence]:
    """Up to `at_most` samples of every source, in order, in rows of `train.length` positions."""
    length = corpus.recipe.train.length
    samples = _samples(corpus, generator, at_most, length)
    waiting: list[PackedSample] = []
    while True:
        packer: Packer[PackedSample] = Packer(ROWS, length)
        again = iter(waiting)
        for sample in chain(again, samples):
            packer.offer(sample, len(sample))
            if packer.full:
                break
        if not any(packer.rows):
            return
        waiting = packer.waiting + list(again)
        yield collate(packer.rows, length, generator.widths)


def _samples(corpus: Corpus, generator: Generator, at_most: int, length: int) -> Iterator[PackedSample]:
    maker = SampleMaker(
        corpus.read, lambda key, reason: None, lambda: None, Encoder(generator.tokenizers, cache_gib=0.0),
        replace(generator.grouping, prompt_weight=1.0), replace(corpus.recipe.data.roles, condition_drop=0.0), corpus.recipe.run.seed,
    )
    for name, source in corpus.sources.items():
        for number in range(min(at_most, len(source))):
            sample = maker.make(Draw(number, name, number))
            if sample is not None:
                yield cut(sample, length)
