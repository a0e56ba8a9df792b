"""Memory of training a text tokenizer on a corpus that is much larger: JSON lines with millions of different words, read once.

    OMP_NUM_THREADS=1 python docs/benchmarks/text_memory.py [--mib 256] [--max-words 50000] [--vocab-size 8000] [--workers 0]

The corpus is made in a temporary folder (words drawn by rank^-1.25, so that new ones never end) and read through a recipe's source, as
`ernie5 tokenizer train` does. Printed: size and different words of the corpus, the largest resident set of the process before it begins,
after counting and after training, megabytes a second.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from ernie5.config import load_config
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.recipe import Recipe
from ernie5.run.random_streams import stream
from ernie5.tokenizers.text_training import TextTraining, train_on_counts
from ernie5.train.count_words import count_words_of
from ernie5.train.prepare import open_training_sources

LETTERS = np.array([f"{a}{b}{c}" for a in "bdfgklmnprstvz" for b in "aeiou" for c in "lnrstk"])


def write_corpus(path: Path, mib: int) -> int:
    """Lines of 400 words; a word is three syllables that belong to its rank. Returns how many different ranks there are."""
    random, seen = stream(0, "corpus"), np.zeros(0, np.uint64)
    with path.open("w") as file:
        while file.tell() < mib * 2**20:
            ranks = (random.random(400_000) ** -4.0).clip(max=1e18).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
            seen = np.union1d(seen, ranks)
            parts = [LETTERS[(ranks >> np.uint64(shift)) % np.uint64(len(LETTERS))] for shift in (5, 23, 41)]
            for line in np.char.add(np.char.add(parts[0], parts[1]), parts[2]).reshape(-1, 400):
                file.write(json.dumps({"text": " ".join(line)}) + "\n")
    return len(seen)


def peak_mib() -> int:
    """The largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def main() -> None:
    parser = argparse.ArgumentParser()
    for name, default in (("mib", 256), ("max-words", 50_000), ("vocab-size", 8000), ("workers", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "corpus.jsonl"
        with multiprocessing.get_context("fork").Pool(1) as pool:  # so that its memory is not ours
            num_words = pool.apply(write_corpus, (path, args.mib))
        print(f"{path.stat().st_size / 2**20:.0f} MiB, {num_words:,} different words", flush=True)
        recipe = load_config(Recipe, {}, [f"data.sources={{web: {{path: '{path}'}}}}"])
        corpus = open_training_sources(recipe, Quarantine(Path(folder) / "q"))
        before, start = peak_mib(), time.perf_counter()
        training = TextTraining(max_words=args.max_words, workers=args.workers)
        counts = count_words_of(corpus, training, 10**12)
        counted, seconds = peak_mib(), time.perf_counter() - start
        tokenizer = train_on_counts(counts, args.vocab_size, training)
        print(f"peak {before} MiB before, {counted} MiB after counting ({args.mib / seconds:.1f} MiB/s), {peak_mib()} MiB after training; "
              f"{len(counts):,} words kept, {tokenizer.vocab_size} tokens, {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
