"""A curation recipe: the steps in order, as YAML over frozen dataclasses (`config.load_config`).

    steps:
      - length: {min_words: 5}
      - exact: {by: text}
      - near_text: {threshold: 0.8}
      - contaminated_text: {against: eval_shards}

A step sees only what the steps before it let pass, as if they ran one after the other over the whole data.
Ours: all of it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from typing import Literal

from ernie5.data_pipelines.curate.decontaminate import EvalImage, EvalText
from ernie5.data_pipelines.curate.exact import Exact
from ernie5.data_pipelines.curate.media_rules import ClipSize, ImageSize, SoundSize
from ernie5.data_pipelines.curate.near_image import NearImage
from ernie5.data_pipelines.curate.near_text import NearText
from ernie5.data_pipelines.curate.text_rules import Language, Length
from ernie5.data_pipelines.media_limits import MediaLimits

Settings = Length | Language | ImageSize | ClipSize | SoundSize | Exact | NearText | NearImage | EvalText | EvalImage


@dataclass(frozen=True)
class Step:
    """One step: exactly one of these is set."""

    length: Length | None = None
    language: Language | None = None
    image: ImageSize | None = None
    video: ClipSize | None = None
    audio: SoundSize | None = None
    exact: Exact | None = None
    near_text: NearText | None = None
    near_image: NearImage | None = None
    contaminated_text: EvalText | None = None
    contaminated_image: EvalImage | None = None

    def __post_init__(self) -> None:
        given = [f.name for f in fields(self) if getattr(self, f.name) is not None]
        if len(given) != 1:
            what = f"has {' and '.join(given)}; give each a step of its own" if given else \
                "is empty; without settings, a step is written exact: {}"
            raise ValueError(f"a step {what}. Steps: {', '.join(f.name for f in fields(self))}")

    @property
    def name(self) -> str:
        """Which step this is, for example `near_text`."""
        return next(f.name for f in fields(self) if getattr(self, f.name) is not None)

    @property
    def settings(self) -> Settings:
        """The settings of the step."""
        return getattr(self, self.name)


@dataclass(frozen=True)
class Curation:
    """The whole recipe. `name`: of the shards that are written. `check: decode` rejects every sample with a member that cannot be decoded
    under `limits` (clips and sounds: the part that training would read); `read` trusts the checksums of the shards."""

    steps: tuple[Step, ...] = ()
    check: Literal["decode", "read"] = "decode"
    limits: MediaLimits = MediaLimits()
    name: str = "curated"
    fields: tuple[str, ...] = ()  # of the input, and what is kept of it on this machine when it is remote: as in source_config.py
    disk_gib: float = 20.0
    samples_per_shard: int = 1000
    samples_per_part: int = 1000  # of the input, worked on at once: what a killed run does again

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,57}", self.name):
            raise ValueError(f"name = {self.name!r} may only hold letters, digits, '-' and '_', 57 at most")
        for key in ("samples_per_shard", "samples_per_part"):
            if getattr(self, key) < 1:
                raise ValueError(f"{key} = {getattr(self, key)} must be at least 1")

    def label(self, number: int) -> str:
        """How reports name a step: `read` for 0 (damaged samples), then `1 length`, `2 exact` …"""
        return f"{number} {self.steps[number - 1].name}" if number else "read"
