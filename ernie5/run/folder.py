"""The folder of one run, and what lies where.

    recipe.yaml   the resolved recipe          logs/          rank-0.log …
    code.txt      commit and diff, or version  samples/       what the model made on the way
    metrics.jsonl one line a step              checkpoints/   step-00001000/ …
    report.html   the report at the end        tokenizers/    trained on the way
    ended.json    where the data ended early   data/          built on the way
Texts are masked (`secrets.mask`) before they are written.
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import ernie5
from ernie5.run.files import atomic_write
from ernie5.run.secrets import mask

_WAY_OUT = "choose another folder or change its rights"
SUBFOLDERS = ("logs", "samples", "checkpoints", "tokenizers", "data")


@dataclass(frozen=True)
class RunFolder:
    """Paths inside a run folder. `RunFolder(path)` touches nothing; `create` and `open` check that the run can write there."""

    path: Path

    def __post_init__(self) -> None:
        object.__setattr__(self, "path", Path(self.path))

    @property
    def recipe(self) -> Path:
        """recipe.yaml"""
        return self.path / "recipe.yaml"

    @property
    def code(self) -> Path:
        """code.txt"""
        return self.path / "code.txt"

    @property
    def metrics(self) -> Path:
        """metrics.jsonl"""
        return self.path / "metrics.jsonl"

    @property
    def report(self) -> Path:
        """report.html"""
        return self.path / "report.html"

    @property
    def ended(self) -> Path:
        """ended.json"""
        return self.path / "ended.json"

    @property
    def lock(self) -> Path:
        """The file of `lock.run_lock`."""
        return self.path / ".lock"

    @property
    def logs(self) -> Path:
        """logs/"""
        return self.path / "logs"

    @property
    def samples(self) -> Path:
        """samples/"""
        return self.path / "samples"

    @property
    def checkpoints(self) -> Path:
        """checkpoints/"""
        return self.path / "checkpoints"

    @property
    def tokenizers(self) -> Path:
        """tokenizers/"""
        return self.path / "tokenizers"

    @property
    def data(self) -> Path:
        """data/"""
        return self.path / "data"

    def create(self) -> RunFolder:
        """Make the folder and its sub-folders where they are missing, and check that all are writable (ValueError naming the path)."""
        for folder in (self.path, *(self.path / name for name in SUBFOLDERS)):
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ValueError(f"run folder: cannot make {folder}: {error.strerror}; {_WAY_OUT}") from None
            _check_writable(folder)
        return self

    def open(self) -> RunFolder:
        """A run folder that must exist already. ValueError naming near matches when there is none."""
        if not self.recipe.is_file():
            parent = self.path.parent
            names = sorted(p.parent.name for p in parent.glob("*/recipe.yaml")) if parent.is_dir() else []
            near = get_close_matches(self.path.name, names, n=3, cutoff=0.0)
            hint = f"; run folders in {parent}: {', '.join(near)}" if near else ""
            raise ValueError(f"{self.path} is not a run folder (no recipe.yaml in it){hint}")
        return self.create()

    def write_recipe(self, text: str) -> None:
        """Write recipe.yaml."""
        atomic_write(self.recipe, mask(text).encode())

    def write_code(self) -> None:
        """Write code.txt: the version, and inside a git checkout the commit and what differs from it."""
        atomic_write(self.code, mask(describe_code(Path(ernie5.__file__).parent)).encode())


def describe_code(package: Path) -> str:
    """Version, commit and diff of the checkout that holds `package`; the version alone where there is no git."""
    version = f"ernie5 {ernie5.__version__}\n"
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return version + "no git checkout with a commit\n"
    status, diff = _git(package, "status", "--short"), _git(package, "diff", "HEAD")
    return f"{version}commit {commit.strip()}\nchanged files:\n{status or '(none)'}\n{diff or ''}"


def _git(folder: Path, *arguments: str) -> str | None:
    """Output of a git command, None when git or the checkout is missing."""
    command = ("git", "--no-optional-locks", "-C", str(folder), *arguments)
    try:
        return subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None


def _check_writable(folder: Path) -> None:
    """Write, sync and remove a small file: rights, quotas and read-only mounts show up now and not at the first checkpoint."""
    probe = folder / f".probe-{os.getpid()}"
    try:
        atomic_write(probe, b"probe\n")
        probe.unlink()
    except OSError as error:
        raise ValueError(f"run folder: cannot write in {folder}: {error.strerror}; {_WAY_OUT}") from None
