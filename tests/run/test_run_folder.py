"""A run folder is ready or refused at once, and says what code ran."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

import pytest

from ernie5.run import files
from ernie5.run.files import atomic_write, read_regular
from ernie5.run.folder import SUBFOLDERS, RunFolder, describe_code


def test_create_makes_everything_and_open_finds_it(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path / "runs" / "tiny").create()
    assert all((folder.path / name).is_dir() for name in SUBFOLDERS)
    assert {folder.logs, folder.samples, folder.checkpoints, folder.tokenizers, folder.data} == {folder.path / name for name in SUBFOLDERS}
    with pytest.raises(ValueError, match="not a run folder"):
        folder.open()
    folder.write_recipe("name: tiny\n")
    folder.write_code()
    assert folder.open() == folder and folder.recipe.read_text() == "name: tiny\n" and folder.code.read_text().startswith("ernie5 0.")
    assert sorted(p.name for p in folder.path.iterdir()) == sorted([*SUBFOLDERS, "recipe.yaml", "code.txt"])
    with pytest.raises(ValueError, match="tinny is not a run folder.*run folders in .*: tiny"):
        RunFolder(folder.path.parent / "tinny").open()


def test_a_folder_without_rights_is_refused_at_once_with_its_path() -> None:
    base = Path(tempfile.mkdtemp(prefix="rights-"))
    try:
        (base / "run").mkdir()
        for path, mode in ((base, 0o755), (base / "run", 0o555)):
            path.chmod(mode)
        started = time.monotonic()
        if os.geteuid() == 0:  # root writes anywhere, so be nobody for a moment
            os.seteuid(65534)
        try:
            for name in ("run", "run/below"):
                with pytest.raises(ValueError, match=f"{base}/run.*Permission denied; choose another folder"):
                    RunFolder(base / name).create()
        finally:
            os.seteuid(os.getuid())
        assert time.monotonic() - started < 2
    finally:
        shutil.rmtree(base)


def test_preflight_also_notices_a_sub_folder_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        if path.parent.name == "checkpoints":
            raise OSError(errno.EROFS, "Read-only file system")

    folder = RunFolder(tmp_path).create()
    monkeypatch.setattr("ernie5.run.folder.atomic_write", full)
    monkeypatch.setattr(Path, "unlink", lambda self: None)
    with pytest.raises(ValueError, match="checkpoints: Read-only file system"):
        folder.create()


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x")
    with pytest.raises(ValueError, match="cannot make .*taken"):
        RunFolder(tmp_path / "taken").create()


def test_code_txt_holds_commit_and_diff(tmp_path: Path) -> None:
    def git(*arguments: str) -> None:
        who = ("-c", "user.name=a", "-c", "user.email=a@b.c")
        subprocess.run(["git", "-C", str(tmp_path), *who, *arguments], check=True, capture_output=True)

    package = tmp_path / "package"
    package.mkdir()
    assert "no git checkout" in describe_code(package)
    git("init", "-q")
    (package / "a.py").write_text("x = 1\n")
    git("add", "-A")
    git("commit", "-qm", "first")
    clean = describe_code(package)
    assert "commit " in clean and "(none)" in clean
    (package / "a.py").write_text("x = 2\n")
    assert "-x = 1\n+x = 2" in describe_code(package)


def test_atomic_write_leaves_the_old_file_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, b"old")
    real = os.fsync

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        atomic_write(path, b"new")
    monkeypatch.setattr(files.os, "fsync", real)
    assert path.read_bytes() == b"old" and [p.name for p in tmp_path.iterdir()] == ["a.json"]
    atomic_write(path, b"new")
    assert path.read_bytes() == b"new"


def test_read_regular_follows_no_links_and_opens_no_devices(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "plain")
    (tmp_path / "zero").symlink_to("/dev/zero")
    os.mkfifo(tmp_path / "pipe")
    assert read_regular(tmp_path / "plain", 3) == b"abc"
    for name, says in (("link", "links are not followed"), ("zero", "links are not followed"), ("pipe", "not a plain file"),
                       ("none", "is missing")):
        with pytest.raises(ValueError, match=says):
            read_regular(tmp_path / name, 3)
    with pytest.raises(ValueError, match="has 3 bytes, expected 4"):
        read_regular(tmp_path / "plain", 4)
    with pytest.raises(ValueError, match="not a plain file"):
        read_regular(Path("/dev/zero"), 3)
