"""Every sample of some sources, examined by one process or several; what comes out is in order, whatever the number of processes.

A decoder that crashes takes only its process with it: the samples that it had are tried again in smaller and smaller parts, until the
one that it cannot bear is known.
Ours: all of it.
"""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import torch

from ernie5.data_pipelines.augment import View
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import BadSample
from ernie5.data_pipelines.sources import Record, SourceConfig
from ernie5.data_pipelines.tokenized.source import CodedRecord
from ernie5.inspect.codes import examine_codes
from ernie5.inspect.examine import Facts, examine
from ernie5.inspect.open_paths import Opened, Problem, reopen
from ernie5.run.progress import progress
from ernie5.sequence import Sample

CHUNK = 64  # samples that a process gets at a time
Tokens = dict[str, int]


@dataclass(frozen=True)
class Job:
    """How samples are looked at. `run`: folder of a run whose tokenizers count tokens, or None. `unit`: pixels a side of a token of
    sources that are native.
    """

    limits: MediaLimits = MediaLimits()
    sample_rate_hz: int = 16000
    guess_language: bool = False
    run: str | None = None
    unit: int = 0


@dataclass(frozen=True)
class Seen:
    """A good sample: its place, its facts, and its tokens by modality when they were counted."""

    place: tuple[str, SourceConfig, int]
    facts: Facts
    tokens: Tokens | None


Chunk = tuple[str, SourceConfig, tuple[int, ...]]


def walk(opened: Opened, job: Job, jobs: int = 1, at_most: int | None = None) -> Iterator[Seen | Problem]:
    """Look at all samples, or at `at_most` that are spread evenly over all of them, with `jobs` processes and a progress bar."""
    chunks = list(_chunks(opened, at_most))
    with progress("looking at samples", sum(len(numbers) for *_, numbers in chunks)) as bar:
        damaged = 0
        for found in _in_processes(chunks, job, jobs) if jobs > 1 else (look_at(job, chunk) for chunk in chunks):
            damaged += sum(isinstance(one, Problem) for one in found)
            bar.advance(len(found), damaged=damaged)
            yield from found


def look_at(job: Job, chunk: Chunk) -> list[Seen | Problem]:
    """One finding for each sample of a chunk."""
    name, config, numbers = chunk
    found: list[Seen | Problem] = []
    for number in numbers:
        try:
            source = reopen(name, config)
            facts, sample = _examined(source.read(number), job, View(native=job.unit if config.native else 0))
            found.append(Seen((name, config, number), facts, _tokens(job.run, sample) if job.run else None))
        except BadSample as damage:
            found.append(Problem(damage.sample_id, damage.reason))
        except ValueError as damage:  # the shard as a whole
            found.append(Problem(f"{name}/({number})", str(damage)))
    return found


def _examined(record: Record, job: Job, view: View) -> tuple[Facts, Sample | CodedSample]:
    if isinstance(record, CodedRecord):
        return examine_codes(record, job.limits)
    return examine(record, job.limits, job.sample_rate_hz, job.guess_language, view)


def _tokens(run: str, sample: Sample | CodedSample) -> Tokens:
    from ernie5.inspect.tokens import count_tokens  # the model's parts are only needed here

    return count_tokens(run, sample)


def _chunks(opened: Opened, at_most: int | None) -> Iterator[Chunk]:
    total, before = opened.num_samples, 0
    wanted = total if at_most is None else min(at_most, total)
    picked = range(total) if wanted == total else sorted({i * total // wanted for i in range(wanted)})
    at = 0
    for name, config, size in opened.sources:
        start = at
        while at < len(picked) and picked[at] < before + size:
            at += 1
        for i in range(start, at, CHUNK):
            yield name, config, tuple(number - before for number in picked[i:min(i + CHUNK, at)])
        before += size


def _in_processes(chunks: list[Chunk], job: Job, jobs: int) -> Iterator[list[Seen | Problem]]:
    waiting, left = deque[tuple[Chunk, Future[list[Seen | Problem]]]](), iter(chunks)
    pool = _pool(jobs)
    try:
        while True:
            while len(waiting) < 3 * jobs and (chunk := next(left, None)) is not None:
                waiting.append((chunk, pool.submit(look_at, job, chunk)))
            if not waiting:
                return
            chunk, future = waiting.popleft()
            try:
                found = future.result()
            except BrokenProcessPool:
                pool.shutdown(cancel_futures=True)
                pool = _pool(jobs)
                found = _alone(job, chunk)
                waiting = deque((other, pool.submit(look_at, job, other)) for other, _ in waiting)
            yield found
    finally:
        pool.shutdown(cancel_futures=True)


def _alone(job: Job, chunk: Chunk) -> list[Seen | Problem]:
    """A chunk in a process of its own; halved where that dies too."""
    name, config, numbers = chunk
    try:
        with _pool(1) as pool:
            return pool.submit(look_at, job, chunk).result()
    except BrokenProcessPool:
        if len(numbers) == 1:
            return [Problem(f"{name}/({numbers[0]})", "the process that decoded it died; the file breaks a decoder, remove it")]
        half = len(numbers) // 2
        return _alone(job, (name, config, numbers[:half])) + _alone(job, (name, config, numbers[half:]))


def _pool(jobs: int) -> ProcessPoolExecutor:
    # a fresh interpreter: threads of torch do not survive a fork
    return ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,))
