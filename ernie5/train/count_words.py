"""The words of all sources, counted as they are read: what the text tokenizer is trained on.

    sources -> chunks of CHUNK samples -> workers: texts -> counts of words -> added here, in the order of the chunks

A text is held only while it is counted, and a chunk's counts are bounded like the sum's (text_counting.py), so memory does not grow with
the corpus, and the result does not depend on the number of workers. Damaged samples are left out: training reports them. Ours.
"""

from __future__ import annotations

import json
import logging
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import Future

from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.workers import Workers
from ernie5.run.progress import progress
from ernie5.tokenizers.text_counting import WordCounts
from ernie5.tokenizers.text_training import TextTraining
from ernie5.train.prepare import Corpus

log = logging.getLogger(__name__)
CHUNK = 1024
Counted = tuple[int, dict[str, int]]  # texts, words


def count_words_of(corpus: Corpus, training: TextTraining, max_texts: int) -> Counter[str]:
    """Count the words of the first `max_texts` texts, one source after the other."""
    chunks = [(name, start) for name, source in corpus.sources.items() for start in range(0, len(source), CHUNK)]
    total, found = WordCounts(training.max_run_chars, training.max_words), 0
    with progress("text tokenizer: samples read", sum(map(len, corpus.sources.values()))) as bar:
        for (name, start), (num_texts, counts) in zip(chunks, _counted(corpus, chunks, training), strict=False):
            if found + num_texts > max_texts:
                num_texts, counts = count_chunk(corpus, name, start, training, max_texts - found)
            total.add(counts)
            found += num_texts
            bar.advance(min(CHUNK, len(corpus.sources[name]) - start), texts=f"{found:,}", words=f"{len(total.counts):,}")
            if found >= max_texts:
                break
    return total.counts


def count_chunk(corpus: Corpus, name: str, start: int, training: TextTraining, max_texts: float = float("inf")) -> Counted:
    """How many texts the samples from `start` on hold, and how often each word stands in them."""
    words, found = WordCounts(training.max_run_chars, training.max_words), 0
    for index in range(start, min(start + CHUNK, len(corpus.sources[name]))):
        try:
            texts = corpus.texts(name, index)
        except ValueError as damage:
            log.debug("%s/%d is left out of tokenizer training: %s", name, index, damage)
            continue
        for text in texts[: int(min(len(texts), max_texts - found))]:
            words.add_text(text)
            found += 1
    return found, words.counts


def _counted(corpus: Corpus, chunks: list[tuple[str, int]], training: TextTraining) -> Iterator[Counted]:
    """The counts of every chunk, in order; workers are two chunks each ahead."""
    if not training.workers:
        yield from (count_chunk(corpus, name, start, training) for name, start in chunks)
        return
    workers = Workers(lambda draw: json.dumps(count_chunk(corpus, draw.source, draw.place, training)).encode(), training.workers)
    asked: deque[Future[bytes]] = deque()
    try:
        for number, (name, start) in enumerate(chunks):
            asked.append(workers.submit(Draw(number, name, start)))
            if len(asked) > 2 * training.workers:
                yield json.loads(asked.popleft().result())
        while asked:
            yield json.loads(asked.popleft().result())
    finally:
        workers.close()
