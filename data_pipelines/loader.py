"""The stream of packed global batches, and the few numbers that say where it stands.

    mixture draw -> record -> sample -> codes -> roles -> lengths -> rows -> groups -> PackedSequence (this rank's rows, in micro-batches)

Every draw, role and flip is a pure function of (seed, number in the global stream), so the stream is the same for any number of ranks,
workers and batches made ahead. Each rank packs the whole global batch (`stream.py`), and groups and collates its own rows.
Letters: B rows, S packed length.
"""

from __future__ import annotations

from concurrent.futures import Future, wait
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from ernie5.data_pipelines.collate import Widths, collate
from ernie5.data_pipelines.loader_state import LoaderState
from ernie5.data_pipelines.mixture import EndOfData, Mixture
from ernie5.data_pipelines.sample_maker import SampleMaker
from ernie5.data_pipelines.stream import Stream, StreamConfig
from ernie5.data_pipelines.thread_pool import single_threaded_pool
from ernie5.sequence import PackedSequence

__all__ = ["Batch", "BatchShape", "EndOfData", "Loader", "LoaderState", "SampleMaker", "StreamConfig", "single_threaded_pool"]


class BatchShape(NamedTuple):
    """A global batch of `rows x length`, run in micro-batches of `micro_rows`; `weights` of sources and `temperature` other than the
    mixture's own. The rows are cut into `slots` parts; every rank holds an equal share of each, and no micro-batch crosses a border: the
    last one of a share has what is left. `bits`: how many bits of a vision token are on; None = as the loader was made.
    """

    rows: int
    length: int
    micro_rows: int
    weights: tuple[tuple[str, float], ...] = ()
    slots: int = 1
    temperature: float | None = None
    bits: int | None = None


@dataclass(frozen=True)
class Batch:
    """This rank's micro-batches of one global step and the slot of each, the ids of all samples of the step, and the state after it.
    `drawn`: samples drawn since the run began, by source (damaged ones too) and by direction (`text->image`).
    """

    micro_batches: tuple[PackedSequence, ...]
    slots: tuple[int, ...]
    sample_ids: tuple[str, ...]
    state: LoaderState
    drawn: dict[str, int] = field(default_factory=dict)


class Loader:
    """Global batches of `rows x length`, cut into this rank's micro-batches."""

    def __init__(self, maker: SampleMaker, mixture: Mixture, widths: Widths, rank: int = 0, world_size: int = 1,
                 config: StreamConfig = StreamConfig()) -> None:  # noqa: B008  (frozen)
        self.maker, self.widths = maker, widths
        self.rank, self.world_size = rank, world_size
        self.stream = Stream(maker, mixture, config, shared=world_size > 1)
        self.state = self.stream.state
        self.worker = single_threaded_pool(1)
        self.ahead: tuple[BatchShape, Future[Batch]] | None = None

    @property
    def mixture(self) -> Mixture:
        """What is drawn from, as far as batches were made."""
        return self.stream.mixture

    def restore(self, state: LoaderState) -> None:
        """Go on from a saved state."""
        if self.ahead is not None:
            wait([self.ahead[1]])  # never two threads on one stream; how it ended does not matter
        self.ahead, self.state = None, state
        self.stream.restore(state)

    def next(self, shape: BatchShape, then: BatchShape | None = None) -> Batch:
        """The next global batch; `then` = shape of the one after it, prepared in the background meanwhile. EndOfData after the last."""
        if self.ahead is not None and self.ahead[0] != shape:
            self.restore(self.state)  # another shape is wanted than was guessed: those samples were not used
        batch = self.ahead[1].result() if self.ahead else self.make(shape)
        self.state = batch.state
        self.ahead = (then, self.worker.submit(self.make, then)) if then else None
        return batch

    def make(self, shape: BatchShape) -> Batch:
        """Draw, pack, group and collate one global batch."""
        rows, length, micro_rows, weights, slots, temperature, bits = shape
        if rows % (slots * self.world_size):
            raise ValueError(f"{rows} rows of a batch must divide among {self.world_size} process(es) times {slots} slot(s); use "
                             f"{slots * self.world_size} rows, or a multiple")
        packed = self.stream.rows(rows, length, dict(weights), temperature)
        ids = self.stream.ids(packed)
        share = rows // (slots * self.world_size)
        starts = [(slot * self.world_size + self.rank) * share for slot in range(slots)]
        shares = [packed[at : at + share] for at in starts]
        cuts = [(slot, own[i : i + micro_rows]) for slot, own in enumerate(shares) for i in range(0, share, micro_rows)]
        parts = [part for _, part in cuts]
        documents = self.stream.documents([draw for part in parts for row in part for draw in row], length)
        widths = self.widths if bits is None else replace(self.widths, bits=bits)
        made = tuple(collate([[documents[draw] for draw in row] for row in part], length, widths) for part in parts)
        state = self.stream.state
        drawn = dict.fromkeys(self.mixture.sizes, 0) | state.per_source | dict(sorted(state.per_direction.items()))
        return Batch(made, tuple(slot for slot, _ in cuts), ids, state, drawn)

    def close(self) -> None:
        """Stop the background thread and the workers."""
        self.stream.fetch.close()
        self.worker.shutdown(wait=True, cancel_futures=True)
        self.stream.fetch.forget()  # what a batch that was being made had still asked for
