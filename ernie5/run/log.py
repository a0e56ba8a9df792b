"""Logging of a run: rank 0 speaks on stderr, every rank writes logs/rank-N.log, secrets are masked in both.

    with logging_to(folder.logs):
        logging.getLogger("ernie5.train").info("step %d", step)

The metrics of the steps go to `MetricsLog` (metrics_log.py).
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from ernie5.run.metrics_log import MetricsLog
from ernie5.run.secrets import mask

__all__ = ["MetricsLog", "logging_to"]

_FILE_FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextmanager
def logging_to(logs: Path | None = None, rank: int | None = None) -> Iterator[logging.Logger]:
    """Send what `ernie5.…` loggers say to stderr (rank 0; errors of every rank) and to `logs`/rank-N.log (when given) until the block ends.

    `rank` defaults to the environment variable RANK. A log file on a full disk never stops a run.
    """
    rank = int(os.environ.get("RANK", "0")) if rank is None else rank
    logger = logging.getLogger("ernie5")
    console = _Stderr()
    console.setLevel(logging.INFO if rank == 0 else logging.ERROR)
    console.setFormatter(_Masking("%(message)s" if rank == 0 else f"[rank {rank}] %(message)s"))
    handlers: list[logging.Handler] = [console]
    if logs is not None:
        file = logging.FileHandler(Path(logs) / f"rank-{rank}.log", encoding="utf-8")
        file.setFormatter(_Masking(_FILE_FORMAT))
        handlers.append(file)
    level, propagate = logger.level, logger.propagate
    logger.setLevel(logging.INFO)
    logger.propagate = False
    for handler in handlers:
        logger.addHandler(handler)
    try:
        yield logger
    finally:
        logger.setLevel(level)
        logger.propagate = propagate
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()


class _Masking(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return mask(super().format(record))


class _Stderr(logging.StreamHandler):
    """Looks up sys.stderr at every line: a progress bar replaces it to keep lines and bar apart."""

    @property
    def stream(self) -> TextIO:
        return sys.stderr

    @stream.setter
    def stream(self, stream: TextIO) -> None:
        pass
