"""The global stream as lengths: which draws stand in which row of the next batch, and where that leaves the stream.

    mixture draw -> sample -> codes -> roles -> length -> row

It is the same on every rank: packing sees the lengths of the whole global batch, and decoding decides which samples are damaged. A damaged
sample is quarantined and the next draw takes its place. Ours. Letters: S packed length.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NoReturn

from ernie5.data_pipelines.collate import PackedSample
from ernie5.data_pipelines.cost import Cost
from ernie5.data_pipelines.fetch import Fetch
from ernie5.data_pipelines.loader_state import LoaderState, Waiting
from ernie5.data_pipelines.measure import Look, Measure, Measured
from ernie5.data_pipelines.mixture import Draw, EndOfData, Mixture
from ernie5.data_pipelines.pack_window import WindowPacker
from ernie5.data_pipelines.packing import Packer, cut
from ernie5.data_pipelines.sample_maker import SampleMaker, key_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StreamConfig:
    """`workers` processes read ahead (0: the loader's thread does it). `window`: samples that may wait while rows are packed by best fit,
    balanced by `cost`; 0 packs by first fit.
    """

    workers: int = 0
    window: int = 0
    cost: Cost = Cost()


class Stream:
    """Rows of draws, one global batch after the other. `shared`: other ranks collate some of the rows."""

    def __init__(self, maker: SampleMaker, mixture: Mixture, config: StreamConfig, shared: bool) -> None:
        self.maker, self.mixture, self.config, self.shared = maker, mixture, config, shared
        self.own_weights, self.own_temperature = mixture.weights, mixture.temperature
        self.measure = Measure(maker.grouping, maker.roles, maker.seed)
        self.fetch = Fetch(maker, config.workers)
        self.waiting: tuple[Waiting, ...] = ()
        self.per_direction: dict[str, int] = {}
        self._num_read = 0                            # how many `_items` has taken from `waiting`
        self._cut: dict[tuple[Draw, int], int] = {}   # lengths of documents that are cut for a row of a length
        self._told = False                            # that there are any

    @property
    def state(self) -> LoaderState:
        """Where the stream stands after the last batch."""
        mixture = self.mixture
        return LoaderState(mixture.drawn, dict(mixture.per_source), self.waiting, dict(mixture.owed), dict(self.per_direction),
                           self.maker.layout)

    def restore(self, state: LoaderState) -> None:
        """Go on from there."""
        self.mixture = replace(self.mixture, drawn=state.drawn, per_source=dict(state.per_source), owed=dict(state.owed))
        self.waiting, self.per_direction = state.under(self.maker.layout), dict(state.per_direction)
        self.fetch.forget()

    def rows(self, num_rows: int, length: int, weights: dict[str, float], temperature: float | None) -> list[list[Draw]]:
        """The draws of the rows of the next batch, under these weights of sources instead of the mixture's own; what found no place
        waits. EndOfData when there is nothing left to place.
        """
        weights, temperature = self.own_weights | weights, temperature or self.own_temperature
        if (weights, temperature) != (self.mixture.weights, self.mixture.temperature):
            self.mixture.reweigh(weights, temperature)
            self.fetch.forget()
        ended = ""
        stream = self._items(length)
        self._num_read = 0

        def more() -> tuple[Waiting, int] | None:
            nonlocal ended
            try:
                return None if ended else next(stream)
            except EndOfData as end:
                ended = str(end)
                return None

        packer: Packer[Waiting] | WindowPacker[Waiting]
        if self.config.window:
            packer = WindowPacker(num_rows, length, self.config.window, self.config.cost)
            packer.fill(more)
        else:
            packer = Packer(num_rows, length)
            packer.fill(iter(more, None))
        self.waiting = (*packer.waiting, *self.waiting[self._num_read :])
        still = {item.draw for item in self.waiting}
        self._cut = {key: size for key, size in self._cut.items() if key[0] in still}
        if ended and not any(packer.rows):
            raise EndOfData(ended)
        return [[item.draw for item in row] for row in packer.rows]

    def _items(self, length: int) -> Iterator[tuple[Waiting, int]]:
        """What waits, then new draws, with their positions in a row of `length`; damaged samples are reported and left out."""
        for number, item in enumerate(self.waiting):
            self._num_read = number + 1
            if item.length is None:
                measured = self._judged(item.draw)
                if measured is None:
                    continue
                item = Waiting(item.draw, measured.length)
            yield item, self._fitted(item, length)
        while True:
            self.fetch.ask_ahead(self.mixture, self._is_known)
            draw = self.mixture.draw()
            measured = self._judged(draw)
            if measured is not None:
                self.per_direction[measured.direction] = self.per_direction.get(measured.direction, 0) + 1
                item = Waiting(draw, measured.length)
                yield item, self._fitted(item, length)

    def _judged(self, draw: Draw) -> Measured | None:
        """Length and direction of a good sample; a damaged one is reported."""
        look = self._look(draw)
        if isinstance(look, str):
            self.maker.reject(key_of(draw), look)
            return None
        self.maker.accept()
        return self.measure.of(look, draw)

    def _look(self, draw: Draw) -> Look | str:
        key = self.maker.shape_key(draw)
        look = self.measure.recall(key)
        if look is not None:
            if self._is_known(draw):
                self.fetch.drop(draw)
            return look
        found = self.fetch.get(draw)
        if not isinstance(found, str) and not self.config.window:  # with a window, most are used much later
            self.fetch.fresh[self.maker.key(draw)] = found
        return self.measure.learn(key, found)

    def _is_known(self, draw: Draw) -> bool:
        """Whether this sample can be packed without its media, and probably will be."""
        look = self.measure.recall(self.maker.shape_key(draw))
        return isinstance(look, str) or (look is not None and (self.shared or self.config.window > 0))

    def _fitted(self, item: Waiting, length: int) -> int:
        """The positions of a document, cut where it is longer than a row."""
        assert item.length is not None
        if item.length <= length:
            return item.length
        if (item.draw, length) not in self._cut:
            document = self._document(item.draw, length)
            self._cut[item.draw, length] = len(document)
            if not self._told:
                self._told = True
                log.warning("%s has %d positions; documents are cut at train.length = %d, at group borders, media too", document.id,
                            item.length, length)
        return self._cut[item.draw, length]

    def _document(self, draw: Draw, length: int) -> PackedSample:
        found = self.fetch.get(draw)
        if isinstance(found, str):
            _changed(draw, found)
        return cut(self.maker.packed(found, draw.number), length)

    def documents(self, draws: list[Draw], length: int) -> dict[Draw, PackedSample]:
        """These documents, workers a few ahead; the last thing that a batch needs."""
        documents = {}
        for number, draw in enumerate(draws):
            for soon in draws[number : number + self.fetch.room]:
                self.fetch.ask(soon)
            documents[draw] = self._document(draw, length)
        self.fetch.fresh.clear()
        return documents

    def ids(self, rows: list[list[Draw]]) -> tuple[str, ...]:
        """The names of all samples of a batch, row after row."""
        looks = [(draw, self._look(draw)) for row in rows for draw in row]
        return tuple(look.id if isinstance(look, Look) else _changed(draw, look) for draw, look in looks)


def _changed(draw: Draw, reason: str) -> NoReturn:
    raise ValueError(f"{key_of(draw)} could be read before and cannot now ({reason}); did the data change while the run was using it?")
