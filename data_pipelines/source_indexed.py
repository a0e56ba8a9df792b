"""What sources over indexed files have in common: number, fingerprints and problems are those of their files; `read` is their own. Ours."""

from __future__ import annotations

from collections.abc import Mapping

from ernie5.data_pipelines.indexed_files import IndexedFiles


class IndexedSource:
    """`name`: of the source in the recipe."""

    def __init__(self, name: str, files: IndexedFiles) -> None:
        self.name, self._files = name, files
        self.fingerprints, self.problems = files.fingerprints, files.problems

    def __len__(self) -> int:
        """Number of samples (lines that are not blank, rows); damaged ones count, because only reading tells."""
        return len(self._files)

    @property
    def fingerprint(self) -> str:
        """One hash over `fingerprints`, which has one per file."""
        return self._files.fingerprint

    def check_unchanged(self, fingerprints: Mapping[str, str]) -> None:
        """Raises ValueError that names a file when these fingerprints, from an earlier start of the run, are not those of now."""
        self._files.check_unchanged(fingerprints)
