"""Where the stream stands, in a few numbers: counters of global samples, what sources are owed, and the draws that wait for a place.

    version 1: drawn, per_source, waiting [number, source, place]        (its draws were independent of each other)
    version 2: also owed and per_direction; waiting has a fourth number, the length (null = to be measured)

Version 1 is read: such a run goes on with the draws of today, and no sample of an epoch is lost or repeated. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from ernie5.data_pipelines.mixture import Draw

VERSION = 2


class Waiting(NamedTuple):
    """A draw that has no place yet, and its uncut length in positions (None where only decoding can tell)."""

    draw: Draw
    length: int | None = None


@dataclass(frozen=True)
class LoaderState:
    """Counts global samples, never ranks or workers. `layout`: what the lengths hold for (`SampleMaker.layout`)."""

    drawn: int = 0
    per_source: dict[str, int] = field(default_factory=dict)
    waiting: tuple[Waiting, ...] = ()
    owed: dict[str, int] = field(default_factory=dict)
    per_direction: dict[str, int] = field(default_factory=dict)
    layout: str = ""

    def to_json(self) -> dict:
        """What a checkpoint keeps."""
        waiting = [[*item.draw, item.length] for item in self.waiting]
        return {"version": VERSION, "drawn": self.drawn, "per_source": dict(self.per_source), "waiting": waiting,
                "owed": dict(self.owed), "per_direction": dict(self.per_direction), "layout": self.layout}

    @classmethod
    def from_json(cls, state: dict) -> "LoaderState":
        """The reverse, of this version or an older one. ValueError for a newer one."""
        version = state.get("version", 1)
        if version > VERSION:
            raise ValueError(f"the checkpoint's data position has version {version}, this code knows {VERSION}; use the code that wrote it")
        waiting = tuple(Waiting(Draw(*item[:3]), item[3] if version > 1 else None) for item in state["waiting"])
        return cls(state["drawn"], dict(state["per_source"]), waiting, dict(state.get("owed", {})),
                   dict(state.get("per_direction", {})), state.get("layout", ""))

    def under(self, layout: str) -> tuple[Waiting, ...]:
        """What waits, with the lengths that hold under this layout."""
        return self.waiting if layout == self.layout else tuple(Waiting(item.draw) for item in self.waiting)
