"""A profiler trace of chosen steps (`train.profile_steps`) in RUN/logs/trace.json, for chrome://tracing or ui.perfetto.dev. Ours."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from ernie5.run.files import atomic_write

log = logging.getLogger(__name__)


@dataclass
class StepProfiler:
    """`with profiler.step(n): …` records step n if it is one of `steps`; `path` holds all steps recorded so far."""

    path: Path
    steps: tuple[int, ...]
    events: list[dict] = field(default_factory=list)

    @contextmanager
    def step(self, number: int) -> Iterator[None]:
        if number not in self.steps:
            yield
            return
        with torch.profiler.profile() as profiler, torch.profiler.record_function(f"step {number}"):
            yield
        self._add(profiler)

    def _add(self, profiler: torch.profiler.profile) -> None:
        part = self.path.with_name(f".{self.path.name}.part")
        try:
            profiler.export_chrome_trace(str(part))
            trace = json.loads(part.read_bytes())
            self.events += trace["traceEvents"]
            atomic_write(self.path, json.dumps({**trace, "traceEvents": self.events}).encode())
        except OSError as error:
            log.warning("%s cannot be written: %s", self.path, error.strerror)
        finally:
            part.unlink(missing_ok=True)
