"""One save at a time beside the work that goes on; what went wrong in it is heard at the next opportunity.

    with BackgroundSave() as saving:
        saving.start(partial(save_checkpoint, …))     # waits for the save before it
        saving.report()                               # logs a failure, once
                                                      # the block ends when the last save has

The thread runs no parallel torch operation: a second team of OpenMP threads would halve the speed of the work beside it (measured for the
loader). If the block ends by an error, nobody waits for other processes any more. Ours.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from threading import Event, Thread
from types import TracebackType

log = logging.getLogger(__name__)
GRACE_S = 2.0


class BackgroundSave:
    """`stop` is set when the saves of a team must not wait for its other members any longer. `team_size` processes save together."""

    def __init__(self, team_size: int = 1) -> None:
        self.stop, self.team_size = Event(), team_size
        self._thread: Thread | None = None
        self._error: BaseException | None = None

    def __enter__(self) -> BackgroundSave:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is not None and self.team_size > 1:  # another rank may be dead: its part never comes
            self.stop.set()
            self.wait(GRACE_S)
        else:
            self.wait()

    def start(self, save: Callable[[], object]) -> None:
        """Run `save` in a thread, after the one before it has ended."""
        self.wait()

        def work() -> None:
            try:
                save()
            except BaseException as error:
                self._error = error

        self._thread = Thread(target=work, name="checkpoint", daemon=True)
        self._thread.start()

    def wait(self, timeout_s: float | None = None) -> None:
        """Until no save is in flight; then `report`."""
        if self._thread is not None:
            self._thread.join(timeout_s)
            if not self._thread.is_alive():
                self._thread = None
        self.report()

    def report(self) -> None:
        """Log what a save died of, once: ValueErrors in a line, anything else with its traceback. Training goes on."""
        error, self._error = (None, self._error) if self._thread is not None and self._thread.is_alive() else (self._error, None)
        if isinstance(error, ValueError):
            log.error("%s", error)
        elif error is not None:
            log.error("a checkpoint could not be saved", exc_info=error)
