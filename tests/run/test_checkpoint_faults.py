"""Every kind of damage is noticed before anything is handed out."""

from __future__ import annotations

import json
import os
import pickle
import resource
import shutil
import struct
import time
from collections.abc import Callable
from pathlib import Path

import checkpoint_child as child
import pytest
import torch

from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, list_steps, load_checkpoint
from ernie5.run.manifest import FileEntry, Manifest, digest
from ernie5.run.manifest_read import read_manifest
from ernie5.run.random_streams import stream
from ernie5.run.tensor_files import decode, open_tensors

FILES = ("tensors-00000.safetensors", "tensors-00001.safetensors", "tensors-00002.safetensors", "state.json", "manifest.json", "COMMIT")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """A folder with the checkpoints of steps 1 and 2."""
    child.save(tmp_path, 1)
    child.save(tmp_path, 2)
    return tmp_path


def assert_falls_back(folder: Path, caplog: pytest.LogCaptureFixture, names: str = "") -> None:
    caplog.clear()
    found = latest_checkpoint(folder)
    assert found is not None and found.step == 1
    assert all(torch.equal(found.tensors[name], tensor) for name, tensor in child.tensors(1).items())
    assert "falling back to the checkpoint of step 1" in caplog.text and names in caplog.text


def test_bit_flips_everywhere_are_always_found(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    step = two / "step-00000002"
    found = 0
    for i in range(300):
        rng = stream(0, "flip", i)
        name = FILES[i % len(FILES)]
        data = bytearray((step / name).read_bytes())
        offset = int(rng.integers(len(data)))
        old = data[offset]
        data[offset] ^= 1 << int(rng.integers(8))
        (step / name).write_bytes(data)
        with pytest.raises(CheckpointError, match="COMMIT" if name == "COMMIT" else name):
            load_checkpoint(step)
        found += 1
        data[offset] = old
        (step / name).write_bytes(data)
    assert found == 300 and load_checkpoint(step).step == 2
    flipped = bytearray((step / FILES[0]).read_bytes())
    flipped[-1] ^= 1
    (step / FILES[0]).write_bytes(flipped)
    assert_falls_back(two, caplog, FILES[0])


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["half", "empty", "one byte more", "missing", "link", "folder", "pipe"])
def test_truncated_missing_and_foreign_files(two: Path, name: str, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    path = two / "step-00000002" / name
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "half":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.write_bytes(b"")
        case "one byte more":
            path.write_bytes(data + b"\0")
        case "link":
            (two / "outside").write_bytes(data)
            path.symlink_to(two / "outside")
        case "folder":
            path.mkdir()
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(path.parent)
    if name == "COMMIT" and damage == "missing":
        assert list_steps(two) == [1]  # by definition no checkpoint
        return
    assert_falls_back(two, caplog, name)


@pytest.mark.parametrize("names", [
    ["tensors-00001.safetensors"], ["state.json"], ["manifest.json"], ["COMMIT"], ["manifest.json", "COMMIT"], list(FILES)])
def test_files_of_another_step(two: Path, names: list[str], caplog: pytest.LogCaptureFixture) -> None:
    for name in names:
        shutil.copy(two / "step-00000001" / name, two / "step-00000002" / name)
    assert_falls_back(two, caplog)


def test_two_files_of_one_step_swapped(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, second = (two / "step-00000002" / name for name in FILES[:2])
    a, b = first.read_bytes(), second.read_bytes()
    first.write_bytes(b)
    second.write_bytes(a)
    assert_falls_back(two, caplog)


def resign(path: Path, edit: Callable[[dict], None], sign: bool = True, commit: bool = True) -> None:
    """Edit a manifest, and forge its own hash and COMMIT."""
    body = json.loads((path / "manifest.json").read_text())
    body.pop("sha256")
    edit(body)
    data = json.dumps({**body, "sha256": digest(json.dumps(body, sort_keys=True).encode()) if sign else "0" * 64}).encode()
    (path / "manifest.json").write_bytes(data)
    if commit:
        (path / "COMMIT").write_text(digest(data) + "\n")


def test_edited_manifest(two: Path) -> None:
    path = two / "step-00000002"
    resign(path, lambda body: body.update(run_id="other"), commit=False)
    with pytest.raises(CheckpointError, match="does not match COMMIT"):
        load_checkpoint(path)
    resign(path, lambda body: body.update(run_id="other"), sign=False)
    with pytest.raises(CheckpointError, match="was edited"):
        load_checkpoint(path)


EDITS: dict[str, Callable[[dict], None]] = {
    "traversal": lambda b: b["files"].update({"../../x": b["files"]["state.json"]}),
    "absolute": lambda b: b["files"].update({"/etc/passwd": b["files"]["state.json"]}),
    "nul": lambda b: b["files"].update({"state.json\0": b["files"]["state.json"]}),
    "long name": lambda b: b["files"].update({"x" * 300: b["files"]["state.json"]}),
    "newline": lambda b: b["files"].update({"state.json\n": b["files"]["state.json"]}),
    "tensor elsewhere": lambda b: b["tensors"]["layer.0.weight"]["parts"][0].update(file="../step-00000001/tensors-00000.safetensors"),
    "no state": lambda b: b["files"].pop("state.json"),
    "no files": lambda b: b.update(files={}),
    "shape": lambda b: b["tensors"]["layer.0.weight"].update(shape=[400]),
    "dtype": lambda b: b["tensors"]["layer.0.weight"].update(dtype="int32"),
    "tensor in another file": lambda b: b["tensors"]["layer.0.weight"]["parts"][0].update(file="tensors-00001.safetensors"),
    "tensor missing": lambda b: b["tensors"].pop("layer.0.weight"),
    "tensor extra": lambda b: b["tensors"].update(more=b["tensors"]["layer.0.weight"]),
    "step text": lambda b: b.update(step="two"),
    "files list": lambda b: b.update(files=[]),
    "format": lambda b: b.update(format="zip"),
    "version text": lambda b: b.update(version="1"),
    "lying size": lambda b: b["files"]["state.json"].update(num_bytes=2**50),
}


@pytest.mark.parametrize("edit", EDITS)
def test_forged_manifests(two: Path, edit: str, caplog: pytest.LogCaptureFixture) -> None:
    resign(two / "step-00000002", EDITS[edit])
    assert_falls_back(two, caplog)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"5", b"\xff\xfe", b"[" * 100_000, b'{"sha256": "x"}', b"9" * 10_000])
def test_manifests_that_are_none(two: Path, text: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path = two / "step-00000002"
    (path / "manifest.json").write_bytes(text)
    (path / "COMMIT").write_text(digest(text) + "\n")
    assert_falls_back(two, caplog, "manifest")


def test_all_damaged_is_an_error_and_no_fresh_start(two: Path) -> None:
    for step in (1, 2):
        (two / f"step-0000000{step}" / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"(?s)none of the 2 checkpoint\(s\).*step-00000002.*step-00000001"):
        latest_checkpoint(two)


def header(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


HEADERS = {
    "100 MB header": header(b"{" + b" " * 100_000_000),
    "header beyond the file": struct.pack("<Q", 2**63) + b"{}",
    "too short": b"abc",
    "empty": b"",
    "not json": header(b"{x}"),
    "overlapping": header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},'
                          b'"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}', b"0000"),
    "hole": header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}', b"00000000"),
    "huge shape": header(b'{"a":{"dtype":"F32","shape":[9223372036854775807,4],"data_offsets":[0,4]}}', b"0000"),
    "shape lies": header(b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4]}}', b"0000"),
    "offsets lie": header(b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,400]}}', b"0000"),
    "unknown type": header(b'{"a":{"dtype":"EVIL","shape":[1],"data_offsets":[0,4]}}', b"0000"),
    "pickle": pickle.dumps(torch.nn.Linear),
}


@pytest.mark.parametrize("name", HEADERS)
def test_header_abuse_is_refused_quickly_and_in_little_memory(two: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    path = two / "step-00000002"
    data = HEADERS[name]
    (path / FILES[0]).write_bytes(data)
    resign(path, lambda body: body["files"].update({FILES[0]: {"sha256": digest(data), "num_bytes": len(data)}}))
    before_kib, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    assert_falls_back(two, caplog)
    assert time.monotonic() - started < 2
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 200 * 1024


def test_a_header_longer_than_its_tensors_need_is_not_even_parsed(tmp_path: Path) -> None:
    entry = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    fine, long = header(entry + b" " * 1000 + b"}", b"0000"), header(entry + b" " * 5_000_000 + b"}", b"0000")
    (tmp_path / "fine").write_bytes(fine)
    (tmp_path / "long").write_bytes(long)
    assert decode(fine, 1).keys() == {"a"} == set(open_tensors(tmp_path / "fine", {"a": ((1,), "float32")}).keys())
    for read in (lambda: decode(long, 1), lambda: open_tensors(tmp_path / "long", {"a": ((1,), "float32")})):
        with pytest.raises(ValueError, match="the header claims 5000054 bytes for 1 tensors"):
            read()


class Canary:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_pickle_in_any_file_is_never_run(two: Path, caplog: pytest.LogCaptureFixture) -> None:
    canary = two / "canary"
    evil = pickle.dumps(Canary(canary))
    for name in (".metadata", "rng.pt", "model.pt", "optimizer.bin", "extra.pkl"):
        (two / "step-00000002" / name).write_bytes(evil)
    assert load_checkpoint(two / "step-00000002").step == 2
    for name in FILES:
        path = two / "step-00000002" / name
        data = path.read_bytes()
        path.write_bytes(evil)
        if name.startswith(("tensors", "state")):
            resign(path.parent, lambda body, name=name: body["files"].update({name: {"sha256": digest(evil), "num_bytes": len(evil)}}))
        assert_falls_back(two, caplog)
        path.write_bytes(data)
    pickle.loads(evil)  # the canary itself works
    assert canary.exists()


def test_manifest_round_trip(two: Path) -> None:
    manifest = read_manifest(two / "step-00000002")
    assert isinstance(manifest, Manifest) and manifest.step == 2
    assert manifest.files["state.json"] == FileEntry(digest((two / "step-00000002" / "state.json").read_bytes()),
                                                     (two / "step-00000002" / "state.json").stat().st_size)
