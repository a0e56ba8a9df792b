"""wandb behind one function: off by default, never a reason for a run to stop.

A tracker that fails is reported once; training goes on and metrics.jsonl stays complete.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ernie5.config import to_plain
from ernie5.recipe import Recipe
from ernie5.run.folder import RunFolder

log = logging.getLogger(__name__)


@contextmanager
def tracker(recipe: Recipe, folder: RunFolder, active: bool) -> Iterator[Callable[[dict], None]]:
    """`track(metrics)` for every step, to wandb where the recipe says so."""
    if not active or recipe.log.wandb == "off":
        yield lambda metrics: None
        return
    import wandb  # takes most of a second: only when used

    run = wandb.init(
        project=recipe.log.wandb_project, name=recipe.run.name, id=folder.path.name, resume="allow", dir=str(folder.path),
        mode=recipe.log.wandb, config=to_plain(recipe),
    )
    failed = False

    def track(metrics: dict) -> None:
        nonlocal failed
        if failed:
            return
        try:
            run.log({k: v for k, v in metrics.items() if isinstance(v, (int, float))}, step=metrics["step"])
        except Exception as error:  # noqa: BLE001  whatever it is, it must not end a training run
            failed = True
            log.warning("wandb failed and is off for the rest of this run: %s", error)

    try:
        yield track
    finally:
        run.finish()
