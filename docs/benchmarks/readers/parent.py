"""Rounds in which readers take turns, one process each, and the table of their ratios."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import tempfile
from pathlib import Path
from typing import Any

NOISY = 0.15   # IQR / median of the ratios above which a figure is refused


class Reader:
    """A process of child.py. RuntimeError with the end of its stderr when it dies."""

    def __init__(self, python: Path | str, module: str, folder: Path) -> None:
        self.module, self.errors = module, tempfile.TemporaryFile("w+")
        child = Path(__file__).with_name("child.py")
        self.process = subprocess.Popen([python, child, module, folder], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=self.errors, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"})
        self._answer()

    def ask(self, do: str, **request: str | int) -> Any:
        """See child.py."""
        self.process.stdin.write(json.dumps({"do": do, **request}) + "\n")
        self.process.stdin.flush()
        return self._answer()

    def _answer(self) -> Any:
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            raise RuntimeError(f"{self.module} died:\n{self.errors.read()[-2000:]}")
        return json.loads(line)

    def close(self) -> None:
        """End it."""
        self.process.stdin.close()
        self.process.wait()
        self.errors.close()


def compare(kinds: dict[str, tuple[Reader, str]], base: str, unchecked: str, samples: int, rounds: int) -> None:
    """One table. `kinds`: name -> (reader, order). All but `unchecked` must read the same bytes as `base`; SystemExit otherwise."""
    checks = {kind: tuple(reader.ask("check", order=order)) for kind, (reader, order) in kinds.items() if kind != unchecked}
    if len(set(checks.values())) != 1 or checks[base][0] != samples:
        raise SystemExit(f"they do not read the same: {checks}")
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    peaks = {}
    for _ in range(rounds):
        for kind, (reader, order) in kinds.items():
            passes, spent_s, peaks[kind] = reader.ask("read", order=order)
            costs[kind].append(spent_s / passes)
    print(f"load {os.getloadavg()[0]:.1f}\n{'':36s} samples/CPU-s   x {base} (quartiles)   IQR/median   peak RSS MiB")
    for kind in kinds:
        low, middle, high = statistics.quantiles([a / b for a, b in zip(costs[base], costs[kind], strict=True)], n=4)
        spread = (high - low) / middle
        print(f"{kind:36s} {samples / statistics.median(costs[kind]):13,.0f}   {middle:6.2f} ({low:.2f} to {high:.2f})"
              f"   {spread:16.2f}   {peaks[kind]:12.0f}{'  refused: too noisy' if spread > NOISY else ''}", flush=True)
