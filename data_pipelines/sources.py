"""Sources of data by what their path says: tar shards, JSONL or Parquet, on this machine or far away.

    open_source("web", SourceConfig("web/*.tar", fields=("json:caption", "jpg|png")), quarantine).read(17) -> Record

Ours: all of it. The contract is in source.py, what a recipe may say in source_config.py.
"""

from __future__ import annotations

from collections.abc import Sequence

from ernie5.data_pipelines.data_files import DataFile, local_files
from ernie5.data_pipelines.media_limits import MediaLimits
from ernie5.data_pipelines.quarantine import Quarantine
from ernie5.data_pipelines.source import DamagedSample, Record, Source
from ernie5.data_pipelines.source_config import SourceConfig
from ernie5.data_pipelines.source_jsonl import JsonlSource
from ernie5.data_pipelines.source_shards import ShardSource

__all__ = ["DamagedSample", "Record", "ShardSource", "Source", "SourceConfig", "open_source"]

SUFFIXES = (".tar", ".jsonl", ".parquet")


def open_source(name: str, config: SourceConfig, quarantine: Quarantine | None = None, limits: MediaLimits | None = None,
                speakers: bool = True) -> Source:
    """The source at `config.path`. ValueError when there is nothing, or not one kind of files; ConnectionError when it is out of reach.

    A member that is larger than `limits` allow is refused by what the index says of it, before it is read. `speakers`: whether speaker
    vectors beside sounds are read.
    """
    if "://" in config.path:
        from ernie5.data_pipelines.remote_files import remote_files

        files: Sequence[DataFile] = remote_files(name, config.path, SUFFIXES, int(config.disk_gib * 2**30))
    else:
        files = local_files(name, [config.path], SUFFIXES)
    kinds = sorted({file.name[file.name.rindex(".") :] for file in files})
    if len(kinds) > 1:
        raise ValueError(f"data.sources.{name}: there are {' and '.join(k[1:] for k in kinds)} files at {files[0].shown} and beside it; "
                         f"name one kind with a pattern such as *{kinds[0]}")
    if config.native and kinds[0] != ".tar":
        raise ValueError(f"data.sources.{name}.native = true is for images, and {kinds[0]} files have only texts; take it away")
    match kinds[0]:
        case ".tar":
            shards = ShardSource(name, files if "://" in config.path else config.path, quarantine, fields=config.fields, limits=limits,
                                 speakers=speakers)
            if not shards.tokenized:
                return shards
            if config.native:
                raise ValueError(f"data.sources.{name}.native = true is for images that keep their own sizes; codes have those that "
                                 "they were made with; take it away")
            from ernie5.data_pipelines.tokenized.source import TokenizedSource

            return TokenizedSource(shards, whole=not config.path.endswith(SUFFIXES))
        case ".jsonl":
            return JsonlSource(name, files, quarantine, config.fields)
        case _:
            from ernie5.data_pipelines.source_parquet import ParquetSource

            return ParquetSource(name, files, quarantine, config.fields)
