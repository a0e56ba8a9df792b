"""The log of samples that cannot be used, and the point where there are too many of them.

One JSON object per line: {"kind": "rejected", "sample": id, "reason": …}; {"kind": "warning", …} for what costs no known sample.
A sample is written once, however often it is met, also after a restart; every meeting counts toward the tolerance:

    rejected / (rejected + accepted) > tolerance   ->   ValueError       (once `min_samples` were seen)

Ours: the tolerance; the report does not say how it treats damaged data.
"""

from __future__ import annotations

import json
import os
from pathlib import Path


class BadSample(ValueError):
    """A sample that must be skipped; `sample_id` is `source/shard/key`, `reason` is a sentence for people."""

    def __init__(self, sample_id: str, reason: str):
        super().__init__(f"{sample_id}: {reason}")
        self.sample_id = sample_id
        self.reason = reason

    def __reduce__(self):  # errors travel from loader workers
        return type(self), (self.sample_id, self.reason)


class Quarantine:
    """Counts good and bad samples and logs the bad ones. Several processes may share one log; the counts are each process's own."""

    def __init__(self, path: str | Path, tolerance: float = 0.01, min_samples: int = 100):
        """`path`: the log, e.g. `logs/quarantine.jsonl`. `tolerance`: the share of bad samples that is put up with, 0 to below 1."""
        if not 0 <= tolerance < 1:
            raise ValueError(f"data.tolerance = {tolerance} must be a share from 0 to below 1, e.g. 0.01 for one bad sample in a hundred")
        if min_samples < 1:
            raise ValueError(f"min_samples = {min_samples} must be at least 1")
        self.path = Path(path)
        self.tolerance = tolerance
        self.min_samples = min_samples
        self.num_accepted = 0
        self.num_rejected = 0
        self._logged = _already_logged(self.path)

    def accept(self) -> None:
        """Count one good sample."""
        self.num_accepted += 1

    def reject(self, sample_id: str, reason: str) -> None:
        """Count and log one bad sample. Raises ValueError when there are more than `tolerance` of them."""
        self.num_rejected += 1
        self._log("rejected", sample_id, reason)
        seen = self.num_accepted + self.num_rejected
        if seen >= self.min_samples and self.num_rejected > self.tolerance * seen:
            raise ValueError(
                f"{self.num_rejected} of {seen} samples cannot be used, more than data.tolerance = {self.tolerance} allows; "
                f"{self.path} names each with its reason. Repair or remove them, or raise data.tolerance")

    def warn(self, sample_id: str, reason: str) -> None:
        """Log something that people should know but that counts as no sample (a cut tail of a shard, an ignored kind of file)."""
        self._log("warning", sample_id, reason)

    def _log(self, kind: str, sample_id: str, reason: str) -> None:
        if (kind, sample_id) in self._logged:
            return
        self._logged.add((kind, sample_id))
        line = json.dumps({"kind": kind, "sample": sample_id, "reason": reason}, ensure_ascii=True) + "\n"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(descriptor, line.encode())  # one write per line: lines of several processes do not mix
        finally:
            os.close(descriptor)


def _already_logged(path: Path) -> set[tuple[str, str]]:
    logged = set()
    if path.exists():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                entry = json.loads(line)
                logged.add((entry["kind"], entry["sample"]))
            except (ValueError, KeyError, TypeError):
                continue  # the last line of a process that was killed while writing
    return logged
