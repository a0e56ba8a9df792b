"""wandb behind one function: off by default, never a reason for a run to stop.

A tracker that fails is reported once; training goes on and metrics.jsonl stays complete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ernie5.config import to_plain
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder

log = logging.getLogger(__name__)


@contextmanager
def tracker(recipe: Recipe, folder: RunFolder, active: bool) -> Iterator[Callable[[dict], None]]:
    """`track(metrics)` for every step, to wandb where the recipe says so."""
    wandb = Wandb(recipe, folder) if active and recipe.log.wandb != "off" else None
    try:
        yield wandb.track if wandb else lambda metrics: None
    finally:
        if wandb:
            wandb.finish()


class Wandb:
    """One wandb run; the first call that fails is the last."""

    def __init__(self, recipe: Recipe, folder: RunFolder) -> None:
        self.run: Any = None
        self.failed: Exception | None = None
        self._try(self._begin, recipe, folder)

    def track(self, metrics: dict) -> None:
        self._try(self._log, metrics)

    def finish(self) -> None:
        self._try(self._end)

    def _begin(self, recipe: Recipe, folder: RunFolder) -> None:
        import wandb  # takes most of a second: only when used

        self.run = wandb.init(
            project=recipe.log.wandb_project, name=recipe.run.name, id=folder.path.name, dir=str(folder.path), config=to_plain(recipe),
            mode="online" if recipe.log.wandb == "online" else "offline", resume="allow",
        )

    def _log(self, metrics: dict) -> None:
        self.run.log({k: v for k, v in metrics.items() if isinstance(v, (int, float))}, step=metrics["step"])

    def _end(self) -> None:
        self.run.finish()

    def _try(self, call: Callable[..., None], *arguments: object) -> None:
        if self.failed is not None:
            return
        try:
            call(*arguments)
        except Exception as error:  # whatever it is, it must not end a training run
            self.failed = error
            log.warning("wandb failed and is off for the rest of this run: %s", error)
