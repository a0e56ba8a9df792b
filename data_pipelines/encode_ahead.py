"""Encode a small corpus before the first step, on all cores, so that training never waits for tokenizers.

A kept result is the same as a fresh one: this changes when work is done, never what a batch holds. Large corpora are encoded on the way.
"""

from __future__ import annotations

import torch

from ernie5.data_pipelines.loader import SampleMaker, single_threaded_pool
from ernie5.run.progress import progress


def encode_ahead(maker: SampleMaker, sizes: dict[str, int], at_most: int) -> None:
    """Fill the encoder's memory with all samples of all sources, if there are no more than `at_most`. Damaged ones are left to training,
    and so are sources that are augmented: their samples are other ones in every draw.
    """
    augmented = maker.views.sources if maker.views else frozenset()
    samples = [(source, index) for source, size in sizes.items() if source not in augmented for index in range(size)]
    if not 0 < len(samples) <= at_most:
        return

    def encode(sample: tuple[str, int]) -> None:
        source, index = sample
        if maker.encoder.room > 0:
            try:
                maker.encoder.encode(f"{source}/{index}", maker.read(source, index))
            except ValueError:
                pass  # whoever draws it reports it

    with single_threaded_pool(torch.get_num_threads()) as pool, progress("encoding", len(samples)) as bar:
        for _ in pool.map(encode, samples):
            bar.advance(1)
