"""The stream of packed global batches, and the few numbers that say where it stands.

    mixture draw -> record -> sample -> codes -> roles -> groups -> rows -> PackedSequence (this rank's rows, in micro-batches)

Every draw, role and flip is a pure function of (seed, number in the global stream), so the stream is the same for any number of ranks.
Each rank groups the whole global batch and collates its own rows. A damaged sample is quarantined and the next draw takes its place.
Letters: B rows, S packed length.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from threading import Barrier
from typing import NamedTuple

import torch

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.data_pipelines.encode import CodedSample, Encoder
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.mixture import Draw, Mixture
from ernie5.data_pipelines.packing import Packer, cut
from ernie5.data_pipelines.roles import RolesConfig, assign_roles
from ernie5.run.random_streams import stream
from ernie5.sequence import PackedSequence, Sample

log = logging.getLogger(__name__)


class BatchShape(NamedTuple):
    """A global batch of `rows x length`, run in micro-batches of `micro_rows`; `weights` of sources other than the mixture's own.

    The rows are cut into `slots` parts; every rank holds an equal share of each, and no micro-batch crosses a border.
    """

    rows: int
    length: int
    micro_rows: int
    weights: tuple[tuple[str, float], ...] = ()
    slots: int = 1


@dataclass(frozen=True)
class LoaderState:
    """Counts global samples, never ranks or workers."""

    drawn: int = 0
    per_source: dict[str, int] = field(default_factory=dict)
    waiting: tuple[Draw, ...] = ()

    def to_json(self) -> dict:
        return {"drawn": self.drawn, "per_source": dict(self.per_source), "waiting": [list(d) for d in self.waiting]}

    @classmethod
    def from_json(cls, state: dict) -> "LoaderState":
        return cls(state["drawn"], dict(state["per_source"]), tuple(Draw(*d) for d in state["waiting"]))


@dataclass(frozen=True)
class Batch:
    """This rank's micro-batches of one global step and the slot of each, the ids of all samples of the step, and the state after it."""

    micro_batches: tuple[PackedSequence, ...]
    slots: tuple[int, ...]
    sample_ids: tuple[str, ...]
    state: LoaderState


@dataclass
class SampleMaker:
    """A draw -> the groups of one document. `read(source, index) -> Sample` may raise ValueError for a damaged one."""

    read: Callable[[str, int], Sample]
    reject: Callable[[str, str], None]
    accept: Callable[[], None]
    encoder: Encoder
    grouping: Grouping
    roles: RolesConfig
    seed: int

    def make(self, draw: Draw) -> PackedSample | None:
        """None when the sample is damaged (and has been reported)."""
        key = f"{draw.source}/{draw.place}"
        coded = self.encoder.recall(key)
        if coded is None:
            try:
                coded = self.encoder.encode(key, self.read(draw.source, draw.place))
            except ValueError as damage:
                self.reject(key, str(damage))
                return None
        self.accept()
        return PackedSample(coded.sample.id, self.groups(coded, draw.number))

    def groups(self, coded: CodedSample, number: int) -> list:
        sample = assign_roles(coded.sample, stream(self.seed, "roles", number), self.roles)
        codes = {id(s.media): c for s, c in zip(coded.sample.segments, coded.codes, strict=True)}
        segments = [Coded.of(s, codes[id(s.media)]) for s in sample.segments]
        return self.grouping.document(segments, stream(self.seed, "history", number))


def single_threaded_pool(num_workers: int) -> ThreadPoolExecutor:
    """Worker threads whose torch operations use one core each.

    A second team of OpenMP threads in a worker would halve the speed of the main thread: libgomp stops spinning once there are more
    threads than cores, even idle ones (measured: 190 against 400 ms a step on two cores).
    """
    threads = torch.get_num_threads()
    ready = Barrier(num_workers + 1)

    def start() -> None:
        torch.set_num_threads(1)
        torch.zeros(2**17).exp_()  # a thread reads the global setting at its first parallel operation, and keeps it
        ready.wait()

    pool = ThreadPoolExecutor(num_workers, thread_name_prefix="loader")
    for _ in range(num_workers):
        pool.submit(start)
    ready.wait()
    torch.set_num_threads(threads)  # some libraries have only one setting for all threads
    return pool


class Loader:
    """Global batches of `rows x length`, cut into this rank's micro-batches."""

    def __init__(self, maker: SampleMaker, mixture: Mixture, widths: Widths, rank: int = 0, world_size: int = 1) -> None:
        self.maker, self.mixture, self.widths = maker, mixture, widths
        self.rank, self.world_size = rank, world_size
        self.waiting: tuple[Draw, ...] = ()
        self.state = LoaderState(mixture.drawn, dict(mixture.per_source))
        self.worker = single_threaded_pool(1)
        self.own_weights = mixture.weights
        self.ahead: tuple[BatchShape, Future[Batch]] | None = None
        self._unread: tuple[Draw, ...] = ()  # what `_samples` has not taken from `waiting`
        self._told = False                   # that documents are cut

    def restore(self, state: LoaderState) -> None:
        """Go on from a saved state."""
        if self.ahead is not None:
            self.ahead[1].result()  # never two threads on one stream
        self.ahead, self.state = None, state
        self.mixture = replace(self.mixture, drawn=state.drawn, per_source=dict(state.per_source))
        self.waiting = state.waiting

    def next(self, shape: BatchShape, then: BatchShape | None = None) -> Batch:
        """The next global batch; `then` = shape of the one after it, prepared in the background meanwhile."""
        if self.ahead is not None and self.ahead[0] != shape:
            self.restore(self.state)  # another shape is wanted than was guessed: those samples were not used
        batch = self.ahead[1].result() if self.ahead else self.make(shape)
        self.state = batch.state
        self.ahead = (then, self.worker.submit(self.make, then)) if then else None
        return batch

    def make(self, shape: BatchShape) -> Batch:
        """Draw, group and pack one global batch."""
        rows, length, micro_rows, weights, slots = shape
        self.mixture.weights = self.own_weights | dict(weights)
        packer: Packer[tuple[Draw, PackedSample]] = Packer(rows, length)
        packer.fill((item, len(item[1])) for item in self._samples(length))
        self.waiting = tuple(draw for draw, _ in packer.waiting) + self._unread
        share = rows // (slots * self.world_size)
        starts = [(slot, (slot * self.world_size + self.rank) * share + i) for slot in range(slots) for i in range(0, share, micro_rows)]
        own = [[[sample for _, sample in row] for row in packer.rows[at : at + micro_rows]] for _, at in starts]
        packed = tuple(collate(part, length, self.widths) for part in own)
        ids = tuple(sample.id for row in packer.rows for _, sample in row)
        state = LoaderState(self.mixture.drawn, dict(self.mixture.per_source), self.waiting)
        return Batch(packed, tuple(slot for slot, _ in starts), ids, state)

    def _samples(self, length: int) -> Iterator[tuple[Draw, PackedSample]]:
        waiting, self._unread = list(self.waiting), ()
        while True:
            draw = waiting.pop(0) if waiting else self.mixture.draw()
            self._unread = tuple(waiting)
            sample = self.maker.make(draw)
            if sample is None:
                continue
            if len(sample) > length and not self._told:
                self._told = True
                log.warning("%s has %d positions; documents are cut at train.length = %d, media too", sample.id, len(sample), length)
            yield draw, cut(sample, length)

    def close(self) -> None:
        """Stop the background thread."""
        self.worker.shutdown(wait=True, cancel_futures=True)
