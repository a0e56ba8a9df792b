"""A loss whose process fails, once: `train.objective=faulty_loss:FaultyLoss` and FAULT="KIND RANK CALL FILE" in the environment.

KIND: kill (SIGKILL), stop (SIGSTOP), raise, loop (for ever, in Python), frozen (for ever, holding Python's lock), mistake (ValueError),
slow (every step takes a while). FILE is made when it happens, and keeps it from happening again.
"""

from __future__ import annotations

import ctypes
import os
import signal
import time
from pathlib import Path

from ernie5.objectives.next_group import NextGroupLoss


class FaultyLoss(NextGroupLoss):
    """NextGroupLoss, and its process's fate."""

    calls = 0

    def __call__(self, *args):
        self.calls += 1
        kind, rank, call, file = os.environ["FAULT"].split()
        if kind == "slow":
            time.sleep(0.3)
        elif os.environ["RANK"] == rank and self.calls == int(call) and not Path(file).exists():
            Path(file).write_text(f"{time.time()} {os.getpid()}")
            fail(kind)
        return super().__call__(*args)


def fail(kind: str) -> None:
    match kind:
        case "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "raise":
            raise RuntimeError("the loss has gone")
        case "mistake":
            raise ValueError("train.rows = 7 is no good; use 8")
        case "loop":
            while True:
                time.sleep(0.01)
        case "frozen":
            ctypes.PyDLL(None).sleep(1000)  # PyDLL keeps Python's lock
