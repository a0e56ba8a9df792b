"""Runs of the training job that end badly, for tests: `python crashing_train.py RECIPE.yaml FOLDER SITE…` or `… slow RECIPE.yaml`.

For every site of a checkpoint save, a child process trains in FOLDER/SITE and kills itself (-9) there while it saves step 4; a site that
begins with `sync:` also leaves half a file. `slow` is the command `ernie5 train RECIPE.yaml` with steps long enough for a signal to arrive.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

import torch

from ernie5.config import load_config
from ernie5.recipe import Recipe
from ernie5.run.checkpoint import save_checkpoint
from ernie5.train import job, loop, saving


def kill_at(site: str) -> None:
    """Patch the save of step 4."""

    def save(folder: Path, step: int, *args, **kwargs) -> Path:
        def hook(at: str) -> None:
            if step == 4 and at == site:
                if site.startswith("sync:"):
                    (torn,) = folder.glob(f".tmp-*/{site[5:]}")
                    os.truncate(torn, torn.stat().st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)

        return save_checkpoint(folder, step, *args, hook=hook, **kwargs)

    saving.save_checkpoint = save


def slow_steps() -> None:
    original = loop.train_step

    def slow(run, config, world):
        time.sleep(0.2)
        return original(run, config, world)

    loop.train_step = slow


def main() -> int:
    if sys.argv[1] == "slow":
        from ernie5.cli.main import main as command_line

        slow_steps()
        return command_line(["train", sys.argv[2]])
    recipe, folder, *sites = sys.argv[1:]
    for site in sites:
        child = os.fork()  # no thread has been started yet
        if child == 0:
            torch.set_num_threads(1)
            kill_at(site)
            job.run_job(load_config(Recipe, recipe, [f"run.dir={Path(folder) / site.replace(':', '-')}"]))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        print(site, os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
