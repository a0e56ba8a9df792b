"""What became of the samples: how many stay, and how many go at which step for which reason."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from ernie5.run.files import atomic_write


@dataclass(frozen=True)
class Report:
    """`rejected`: {"2 near_text": {"near duplicate": 17}, …}; a step that rejected nothing has {}. `warnings`: about whole shards."""

    out: Path
    samples: int
    kept: int
    rejected: dict[str, dict[str, int]]
    warnings: tuple[str, ...]

    def save(self, path: Path) -> None:
        """Write everything but `out` as JSON."""
        plain = {"samples": self.samples, "kept": self.kept, "rejected": self.rejected, "warnings": list(self.warnings)}
        atomic_write(path, (json.dumps(plain, indent=1) + "\n").encode())

    def __str__(self) -> str:
        share = f" ({self.kept / self.samples:.1%})" if self.samples else ""
        lines = [f"kept {self.kept} of {self.samples} samples{share} in {self.out}"]
        for step, reasons in self.rejected.items():
            lines += [f"  {step}: {count} {reason}" for reason, count in reasons.items()] or [f"  {step}: 0"]
        lines += [f"  each of the others with its reason: {self.out / 'rejects.jsonl'}"] if self.kept < self.samples else []
        return "\n".join([*lines, *(f"  note: {warning}" for warning in self.warnings)])


def by_step(labels: list[str], counts: Counter[tuple[str, str]]) -> dict[str, dict[str, int]]:
    """Counts by (step, reason) -> by step, then by reason, the most frequent first."""
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return {label: {reason: n for (step, reason), n in ranked if step == label} for label in labels}
