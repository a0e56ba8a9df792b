"""What ends a process, in words, and a note of it for whoever started the process.

A launcher that sets TORCHELASTIC_ERROR_FILE (torchrun and `ernie5 launch` do) finds the first failure of every rank in that file, in the
form that torch's elastic launcher reads. `ernie5 launch` also reads `code` and `time_ns`: the earliest note of all ranks is the cause, the
others are what it led to. A user's mistake is noted as its message alone; secrets are masked.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from ernie5.run.secrets import mask
from ernie5.run.signals import EXIT_STOPPED, Stopped

ERROR_FILE = "TORCHELASTIC_ERROR_FILE"
EXIT_CRASHED, EXIT_MISTAKE, EXIT_HUNG, EXIT_INTERRUPTED = 1, 2, 124, 130


@dataclass(frozen=True)
class Failure:
    """`text`: a sentence, or a traceback with the sentence as its last line. `time_ns`: when, since the epoch."""

    code: int
    message: str
    text: str
    time_ns: int

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """ValueError and OSError are mistakes that a user can repair; anything else but Ctrl-C is ours and needs its traceback."""
        code, now = EXIT_CRASHED, time.time_ns()
        match error:
            case KeyboardInterrupt():
                code, message = EXIT_INTERRUPTED, "interrupted"
            case Stopped():
                code, message = EXIT_STOPPED, str(error)
            case OSError() if error.strerror:
                code, message = EXIT_MISTAKE, (f"{error.filename}: " if error.filename else "") + error.strerror.lower()
            case OSError() | ValueError():
                code, message = EXIT_MISTAKE, str(error)
            case _:
                message = f"{type(error).__name__}: {error}"
        whole = code == EXIT_CRASHED or os.environ.get("ERNIE5_DEBUG") == "1"
        text = "".join(traceback.format_exception(error)).rstrip() if whole else message
        return cls(code, mask(message), mask(text), now)

    def note(self) -> None:
        """Write it for the launcher, if there is one and this process has noted nothing yet; a stop is no failure."""
        path = os.environ.get(ERROR_FILE)
        if not path or self.code == EXIT_STOPPED:
            return
        extra = {"py_callstack": self.text, "timestamp": str(self.time_ns // 10**9)}
        content = {"message": {"message": self.message, "extraInfo": extra}, "code": self.code, "time_ns": self.time_ns}
        with contextlib.suppress(OSError), open(path, "x", encoding="utf-8") as file:  # the first one stays; a full disk hides nothing else
            json.dump(content, file)


def read_note(path: Path) -> Failure | None:
    """The note at `path`; None where there is none, or only a part of one."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        text = content["message"]["extraInfo"]["py_callstack"]
        return Failure(int(content["code"]), content["message"]["message"], text, int(content["time_ns"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
