"""One draw -> the groups of one document: read, decode, encode, roles, groups.

A pure function of the draw: roles and history are drawn by (seed, number in the global stream), everything before them depends on the
sample alone and may be kept under `SOURCE/PLACE`. Only where a source is augmented (augment.py), what is read depends on the draw too, and
is kept under `SOURCE/PLACE@NUMBER`; and BPE-dropout (text_dropout.py) makes other ids of a text in every draw. Damage is always that of the
place. Ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ernie5.data_pipelines.collate import PackedSample
from ernie5.data_pipelines.encode import CodedSample, Encoder
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.mixture import Draw
from ernie5.data_pipelines.roles import RolesConfig, assign_roles
from ernie5.data_pipelines.text_dropout import TextDropout
from ernie5.run.random_streams import stream
from ernie5.sequence import Sample


@dataclass(frozen=True)
class Views:
    """Sources whose samples are other ones in every draw: `read(draw) -> Sample` raises ValueError for a damaged place, in every draw of
    it. Those of `other_lengths` may also have another number of positions.
    """

    read: Callable[[Draw], Sample | CodedSample]
    sources: frozenset[str]
    other_lengths: frozenset[str]


@dataclass
class SampleMaker:
    """A draw -> the groups of one document. `read(source, place) -> Sample` may raise ValueError for a damaged one, and always gives the
    same for the same place. `layout` names whatever the lengths of documents depend on: lengths that a checkpoint of another one holds
    are measured anew. `views`: what is read instead where samples are augmented. `text_dropout`: None = off.
    """

    read: Callable[[str, int], Sample | CodedSample]
    reject: Callable[[str, str], None]
    accept: Callable[[], None]
    encoder: Encoder
    grouping: Grouping
    roles: RolesConfig
    seed: int
    layout: str = ""
    views: Views | None = None
    text_dropout: TextDropout | None = None

    def sample(self, draw: Draw) -> Sample | CodedSample:
        """What the draw shows, decoded; with its codes where they are stored. ValueError when it is damaged."""
        return self.views.read(draw) if self.views and draw.source in self.views.sources else self.read(draw.source, draw.place)

    def key(self, draw: Draw) -> str:
        """The name under which the codes of a draw may be kept: equal names, equal codes, but for texts under dropout (`drawn`)."""
        return f"{key_of(draw)}@{draw.number}" if self.views and draw.source in self.views.sources else key_of(draw)

    def shape_key(self, draw: Draw) -> str:
        """The name under which its shapes may be kept."""
        changes = self.text_dropout or (self.views and draw.source in self.views.other_lengths)
        return f"{key_of(draw)}@{draw.number}" if changes else key_of(draw)

    def drawn(self, coded: CodedSample, draw: Draw) -> CodedSample:
        """What is kept under a draw's key -> what the draw shows: its texts under dropout."""
        return self.text_dropout.of(coded, draw.number) if self.text_dropout else coded

    def make(self, draw: Draw) -> PackedSample | None:
        """None when the sample is damaged (and has been reported)."""
        key = self.key(draw)
        coded = self.encoder.recall(key)
        if coded is None:
            try:
                coded = self.encoder.encode(key, self.sample(draw))
            except ValueError as damage:
                self.reject(key_of(draw), str(damage))
                return None
        self.accept()
        return self.packed(self.drawn(coded, draw), draw.number)

    def packed(self, coded: CodedSample, number: int) -> PackedSample:
        """The document that draw `number` makes of a coded sample."""
        return PackedSample(coded.sample.id, self.groups(coded, number))

    def groups(self, coded: CodedSample, number: int) -> list:
        sample = assign_roles(coded.sample, stream(self.seed, "roles", number), self.roles)
        codes = {id(s.media): c for s, c in zip(coded.sample.segments, coded.codes, strict=True)}
        segments = [Coded.of(s, codes[id(s.media)]) for s in sample.segments]
        return self.grouping.document(segments, stream(self.seed, "history", number))


def key_of(draw: Draw) -> str:
    """The name of a sample's place."""
    return f"{draw.source}/{draw.place}"
