"""Data that people name on the command line, opened file by file where it cannot be opened as a whole.

A folder with one damaged index cannot be trained on, but all of its damage can be told at once.
Ours: all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from ernie5.data_pipelines.data_files import local_files, stem
from ernie5.data_pipelines.sources import SUFFIXES, Source, SourceConfig, open_source

IGNORED = "/(ignored)"


@dataclass(frozen=True)
class Problem:
    """Something that is wrong with a sample, or with a file as a whole. A note costs no known sample: members that nobody reads."""

    where: str
    reason: str
    note: bool = False


@dataclass(frozen=True)
class Opened:
    """Sources that could be opened, as (name, config, number of samples), and what is wrong with the others, and with their files."""

    sources: tuple[tuple[str, SourceConfig, int], ...]
    problems: tuple[Problem, ...]

    @property
    def num_samples(self) -> int:
        return sum(n for _, _, n in self.sources)


@lru_cache(maxsize=64)
def reopen(name: str, config: SourceConfig) -> Source:
    """The same source again, once in a process. ValueError when it cannot be opened."""
    return open_source(name, config)


def name_paths(paths: Sequence[str]) -> dict[str, SourceConfig]:
    """Every path under a name of its own: the last part of it, with a number where that is taken."""
    named: dict[str, SourceConfig] = {}
    for path in paths:
        base = re.sub(r"[^\w.-]+", "", stem(path.rstrip("/").rpartition("/")[2])).strip(".-") or "data"
        name = next(n for n in [base, *(f"{base}-{i}" for i in range(2, len(paths) + 2))] if n not in named)
        named[name] = SourceConfig(path)
    return named


def open_paths(named: dict[str, SourceConfig]) -> Opened:
    """Open all of it. ValueError when a path has no data at all; damaged data is a problem, not an error."""
    sources: list[tuple[str, SourceConfig, int]] = []
    problems: list[Problem] = []
    for name, config in named.items():
        try:
            configs = [config]
            reopen(name, config)
        except ValueError as error:
            configs = _one_by_one(name, config)
            if len(configs) < 2:
                raise
            whole = str(error)
            before = len(problems)
        else:
            whole = ""
        for one in configs:
            try:
                source = reopen(name, one)
            except ValueError as error:
                problems.append(Problem(f"{name}/{stem(Path(one.path).name)}", str(error)))
                continue
            problems += [Problem(where, reason, where.endswith(IGNORED)) for where, reason in source.problems]
            sources.append((name, one, len(source)))
        if whole and not any(p.reason == whole for p in problems[before:]):
            problems.append(Problem(name, whole))
    return Opened(tuple(sources), tuple(problems))


def _one_by_one(name: str, config: SourceConfig) -> list[SourceConfig]:
    """A config for each local file; none for remote data, and where nothing is there."""
    if "://" in config.path:
        return []
    try:
        return [replace(config, path=str(file.path)) for file in local_files(name, [config.path], SUFFIXES)]
    except ValueError:
        return []
