"""What a recipe says about one source of data.

    data.sources:
      ours:   {path: "shards/*.tar"}                                           written by ShardWriter: nothing else to say
      web:    {path: "web/{000000..000099}.tar", fields: [json:caption, jpg|png]}  other people's tars: which member is which segment
      text:   {path: corpus.jsonl, fields: [body]}                             .jsonl, .parquet: which key or column is the text
      remote: {path: "s3://bucket/train-*.tar", disk_gib: 50}
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SourceConfig:
    """Where samples come from, and how often to draw from them: `weight` against the other sources, and how many `epochs` in all
    (1.5 = once and a half; null = without end). A source that has given its epochs leaves the mixture.

    `path`: a file, a folder, a pattern, a range or a URL; or `demo:` and a path in the demo world. `fields`: the segments of a sample in
    order (fields.py), empty = by themselves. `disk_gib`: how much of a remote source is kept on this machine. `augment`: whether
    `data.augment` is for this source. `native`: its images keep their own aspect and size (up to data.limits.native_pixels) and are only
    read, never generated.
    """

    path: str
    weight: float = 1.0
    fields: tuple[str, ...] = ()
    disk_gib: float = 20.0
    epochs: float | None = None
    augment: bool = True
    native: bool = False

    def __post_init__(self) -> None:
        if self.epochs is not None and not 0 < self.epochs < float("inf"):
            raise ValueError(f"epochs = {self.epochs} must be above 0; use null for a source without end")
        if not self.disk_gib > 0:
            raise ValueError(f"disk_gib = {self.disk_gib} must be above 0; it bounds what is kept of a remote source")
