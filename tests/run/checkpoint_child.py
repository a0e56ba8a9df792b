"""A process that saves checkpoints and kills itself at the n-th site of the last save: `python checkpoint_child.py FOLDER STEPS N [same]`.

Prints nothing. With N too large it ends normally (exit status 0), so that a test knows that it has tried every site.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch

from ernie5.run import checkpoint
from ernie5.run.checkpoint import save_checkpoint


def tensors(step: int, salt: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(step + 1000 * salt)
    return {f"layer.{i}.weight": torch.randn(40, 10, generator=generator) for i in range(3)}


def state(step: int, salt: int = 0) -> dict[str, object]:
    return {"samples": step * 32, "salt": salt, "text": "x" * 3000}


def save(folder: Path, step: int, salt: int = 0, keep_last: int = 2, hook=checkpoint.no_hook) -> Path:
    return save_checkpoint(folder, step, tensors(step, salt), state(step, salt), run_id="run", fingerprint="f" * 32,
                           keep_last=keep_last, file_bytes=1600, hook=hook)


def main() -> None:
    folder, last, at = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    count = 0

    def hook(site: str) -> None:
        nonlocal count
        if count == at:
            if site.startswith("sync:"):  # as if it had died in the middle of writing this file
                (torn,) = folder.glob(f".tmp-*/{site[5:]}")
                os.truncate(torn, torn.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    save(folder, last, salt=1, keep_last=1, hook=hook)


if __name__ == "__main__":
    main()
