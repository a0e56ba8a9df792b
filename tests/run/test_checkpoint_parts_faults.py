"""Damage and forgery in a checkpoint of several ranks: all of it is noticed before any weight is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from rank_threads import shares, state_of, together
from torch import Tensor

from ernie5.run.checkpoint import CheckpointError, latest_checkpoint, load_checkpoint, save_checkpoint
from ernie5.run.manifest import digest
from ernie5.run.random_streams import stream
from ernie5.run.team import Team


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A checkpoint of three ranks."""
    def save(team: Team) -> Path:
        return save_checkpoint(tmp_path, 2, shares(state_of(2), team.rank, team.size), {"step": 2}, run_id="run",
                               fingerprint="f", team=team, attempt="a", file_bytes=500)

    return together(3, save)[0]


def load_into(weights: dict[str, Tensor], folder: Path, team: Team) -> None:
    """What an engine does: verify, then copy what it holds."""
    found = latest_checkpoint(folder, team)
    assert found is not None
    for name, tensor in weights.items():
        tensor.copy_(found.read(name))


def test_bit_flips_everywhere_are_found_before_any_weight_moves(saved: Path) -> None:
    names = sorted(path.name for path in saved.iterdir())
    assert len(names) > 6
    weights = {name: torch.full_like(tensor, 0.5) for name, tensor in state_of(2).items()}
    before = deepcopy(weights)
    for i in range(120):
        rng = stream(0, "flip of a part", i)
        path = saved / names[i % len(names)]
        good = path.read_bytes()
        bad = bytearray(good)
        bad[int(rng.integers(len(bad)))] ^= 1 << int(rng.integers(8))
        path.write_bytes(bad)
        with pytest.raises(CheckpointError, match=path.name):
            load_checkpoint(saved)
        failures = together(2, lambda team: load_into(weights, saved.parent, team))
        assert all(isinstance(failure, CheckpointError) for failure in failures)
        assert any(path.name in str(failure) for failure in failures)
        assert all(torch.equal(weights[name], before[name]) for name in weights)
        path.write_bytes(good)
    assert together(2, lambda team: load_into(deepcopy(weights), saved.parent, team)) == [None, None]


def forge(path: Path, edit: Callable[[dict], None]) -> None:
    """Edit a manifest, its own hash and COMMIT."""
    body = json.loads((path / "manifest.json").read_text())
    body.pop("sha256")
    edit(body)
    data = json.dumps({**body, "sha256": digest(json.dumps(body, sort_keys=True).encode())}).encode()
    (path / "manifest.json").write_bytes(data)
    (path / "COMMIT").write_text(digest(data) + "\n")


def first(body: dict) -> dict:
    return body["tensors"]["model.query"]["parts"][0]


FORGED: dict[str, Callable[[dict], object]] = {
    "negative begin": lambda b: first(b).update(at=[-1, 0]),
    "negative shape": lambda b: first(b).update(shape=[-4, 8]),
    "negative whole": lambda b: b["tensors"]["model.query"].update(shape=[-12, 8]),
    "huge whole": lambda b: b["tensors"]["model.query"].update(shape=[2**62, 2**62]),
    "huge number": lambda b: b["tensors"]["model.query"].update(shape=[10**30, 8]),
    "huge part": lambda b: first(b).update(shape=[2**40, 8]),
    "overlap": lambda b: b["tensors"]["model.query"]["parts"][1].update(at=[0, 0]),
    "twice": lambda b: b["tensors"]["model.query"]["parts"].append(first(b)),
    "a hole": lambda b: b["tensors"]["model.query"]["parts"].pop(),
    "no parts": lambda b: b["tensors"]["model.query"].update(parts=[]),
    "fewer dimensions": lambda b: first(b).update(at=[0], shape=[32]),
    "another key": lambda b: first(b).update(key="model.head"),
    "a key of another tensor": lambda b: first(b).update(key="optimizer.exp_avg.query"),
    "another file": lambda b: first(b).update(file="tensors-00001-00000.safetensors"),
    "a file beyond the set": lambda b: first(b).update(file="tensors-00000-00000-00000.safetensors"),
    "a file elsewhere": lambda b: first(b).update(file="../step-00000001/tensors-00000-00000.safetensors"),
    "state as tensors": lambda b: first(b).update(file="state.json"),
    "a file not listed": lambda b: b["files"].pop("tensors-00000-00000.safetensors"),
    "a fraction": lambda b: first(b).update(at=[0.0, 0]),
    "a truth": lambda b: first(b).update(at=[False, 0]),
    "a text": lambda b: first(b).update(at="00"),
    "shape as a map": lambda b: first(b).update(shape={"0": 4}),
    "parts as a map": lambda b: b["tensors"]["model.query"].update(parts={"x": 1}),
    "dtype": lambda b: b["tensors"]["model.query"].update(dtype="int32"),
    "dtype that is none": lambda b: b["tensors"]["model.query"].update(dtype="load"),
    "dtype list": lambda b: b["tensors"]["model.query"].update(dtype=["float32"]),
    "transposed": lambda b: b["tensors"]["model.query"].update(
        shape=[8, 12], parts=[{**p, "at": p["at"][::-1], "shape": p["shape"][::-1]} for p in b["tensors"]["model.query"]["parts"]]),
    "tensor missing": lambda b: b["tensors"].pop("model.query"),
    "tensors as a list": lambda b: b.update(tensors=[]),
    "many dimensions": lambda b: b["tensors"]["model.query"].update(shape=[1] * 1000),
    "bytes": lambda b: b["files"]["state.json"].update(num_bytes=-1),
    "no attempt": lambda b: b.pop("attempt"),
    "as version 1": lambda b: b.update(version=1),
    "version 0": lambda b: b.update(version=0),
}


@pytest.mark.parametrize("edit", FORGED)
def test_forged_parts_are_refused(saved: Path, edit: str) -> None:
    forge(saved, lambda body: FORGED[edit](body) and None)
    with pytest.raises(CheckpointError):
        load_checkpoint(saved)


def test_swapped_parts_of_two_ranks_are_noticed(saved: Path) -> None:
    one, two = saved / "tensors-00000-00000.safetensors", saved / "tensors-00001-00000.safetensors"
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    with pytest.raises(CheckpointError, match="tensors-0000[01]-00000"):
        load_checkpoint(saved)
