"""metrics.jsonl: one JSON object a step, appended as training goes, cut back to the checkpoint on resume.

    {"step": 12, "loss": 3.21, "experts": [0.1, 0.9]}

inf and nan become null, so that any JSON reader can read the file. A disk that fails does not stop a run: the lines wait in memory.
"""

from __future__ import annotations

import errno
import json
import logging
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
from torch import Tensor

from ernie5.run.files import atomic_write

log = logging.getLogger(__name__)


class MetricsLog:
    """Append, cut and read the file at `path`; the file is opened for each line, so there is nothing to close."""

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.waiting: list[bytes] = []
        self.failed = False

    def append(self, step: int, numbers: Mapping[str, object]) -> None:
        """Write `{"step": step, **numbers}`; values may be numbers, strings, None, tensors, arrays, and lists or dicts of these."""
        self.waiting.append(json.dumps(_plain({"step": step, **numbers}), allow_nan=False).encode() + b"\n")
        try:
            self._write()
        except OSError as error:
            if not self.failed:
                log.warning("%s cannot be written (%s); metrics wait in memory until it can", self.path, error.strerror)
            self.failed = True
            return
        self.waiting, self.failed = [], False

    def truncate_after(self, step: int) -> None:
        """Drop the lines of later steps and what a crash tore, at once (for a resume from the checkpoint of `step`)."""
        self.waiting = []
        if self.path.exists():
            kept = [line for line, numbers in self._lines() if numbers["step"] <= step]
            atomic_write(self.path, b"".join(line + b"\n" for line in kept))

    def read(self) -> list[dict[str, object]]:
        """All whole lines, in the order of the file; an empty list when there is no file yet."""
        return [numbers for _, numbers in self._lines()] if self.path.exists() else []

    def _lines(self) -> Iterator[tuple[bytes, dict[str, object]]]:
        num_torn = 0
        for line in self.path.read_bytes().split(b"\n"):
            try:
                numbers = json.loads(line)
            except ValueError:
                numbers = None
            if isinstance(numbers, dict) and isinstance(numbers.get("step"), int):
                yield line, numbers
            else:
                num_torn += bool(line)
        if num_torn:
            log.warning("%s: %d torn line(s) ignored", self.path, num_torn)

    def _write(self) -> None:
        """Append what waits. A line that a full disk or a crash tore is cut off, or ended, so that it cannot swallow the next one."""
        with open(self.path, "a+b", buffering=0) as file:
            end = file.seek(0, 2)
            file.seek(max(end - 1, 0))
            torn = file.read(1) not in (b"", b"\n")
            data = b"\n" * torn + b"".join(self.waiting)
            try:
                if file.write(data) != len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            except OSError:
                file.truncate(end)
                raise


def _plain(value: object) -> object:
    """The same value in the types of JSON."""
    if isinstance(value, (Tensor, np.ndarray, np.generic)):
        value = value.tolist()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    raise ValueError(f"metrics hold numbers, strings, None, tensors, lists and dicts; got a {type(value).__name__}")
