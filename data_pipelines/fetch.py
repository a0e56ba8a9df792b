"""Coded samples by draw: from memory, from this thread, or from worker processes that were asked in time.

Whatever the way, the same sample is the same: who asks in the order of the stream sees no difference. Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

from ernie5.data_pipelines.coded_bytes import from_bytes, to_bytes
from ernie5.data_pipelines.encode import CodedSample
from ernie5.data_pipelines.mixture import Draw, EndOfData, Mixture
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.workers import WorkerDied, Workers

AHEAD = 4  # samples asked for and not yet used, per worker


class Fetch:
    """`get(draw)` -> coded sample, or why it is damaged; `num_workers` processes work ahead of it."""

    def __init__(self, maker: SampleMaker, num_workers: int) -> None:
        self.maker, self.room = maker, AHEAD * num_workers
        self.workers = Workers(self._work, num_workers) if num_workers else None
        self.asked: dict[str, Future[bytes]] = {}   # by key, at most twice `room`
        self.scout: Mixture | None = None           # where the asking stands, ahead of the stream
        self.fresh: dict[str, CodedSample] = {}     # what the batch at hand must not decode twice

    def _work(self, draw: Draw) -> bytes:
        """What a worker does; it touches nothing that another thread may have locked when the process was forked."""
        return to_bytes(self.maker.drawn(self.maker.encoder.code(self.maker.sample(draw)), draw))

    def get(self, draw: Draw) -> CodedSample | str:
        """The sample, encoded, or the reason why it cannot be used."""
        key = self.maker.key(draw)
        coded = self.fresh.get(key) or self.maker.encoder.recall(key)
        if coded is not None:
            self.asked.pop(key, None)
            return self.maker.drawn(coded, draw)
        try:
            if self.workers is None:
                return self.maker.drawn(self.maker.encoder.encode(key, self.maker.sample(draw)), draw)
            coded = from_bytes((self.asked.pop(key, None) or self.workers.submit(draw)).result())
        except WorkerDied:
            raise
        except ValueError as damage:
            return str(damage)
        self.maker.encoder.keep(key, coded)
        return self.maker.drawn(coded, draw)

    def ask(self, draw: Draw) -> None:
        """Let a worker begin with this sample, if it is not at hand."""
        key = self.maker.key(draw)
        if self.workers and len(self.asked) < 2 * self.room and not (
                key in self.asked or key in self.fresh or self.maker.encoder.recall(key) is not None):
            self.asked[key] = self.workers.submit(draw)

    def ask_ahead(self, mixture: Mixture, known: Callable[[Draw], bool]) -> None:
        """Let workers begin with what the mixture draws next, but for what is `known`."""
        if self.workers is None:
            return
        if self.scout is None:
            self.scout = mixture.copy()
        try:
            while self.scout.drawn < mixture.drawn + self.room and len(self.asked) < self.room:
                draw = self.scout.draw()
                if not known(draw):
                    self.ask(draw)
        except EndOfData:
            pass

    def drop(self, draw: Draw) -> None:
        """This draw is not needed after all."""
        self.asked.pop(self.maker.key(draw), None)

    def forget(self) -> None:
        """The stream goes on elsewhere: what was asked for is not wanted."""
        for future in self.asked.values():
            future.cancel()
        self.asked.clear()
        self.fresh.clear()
        self.scout = None

    def close(self) -> None:
        """End the workers. Who is still getting samples is told so by an exception; `forget` only when nobody is."""
        if self.workers:
            self.workers.close()
