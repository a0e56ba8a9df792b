"""One JSON object a step, whatever happens to the process or the disk."""

from __future__ import annotations

import errno
import json
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from ernie5.run import metrics_log
from ernie5.run.log import MetricsLog


def test_append_and_read(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    assert log.read() == []
    log.append(1, {"loss": 0.1, "bad": float("nan"), "worse": float("-inf"), "name": "é", "none": None, "flag": True})
    log.append(2, {"loss": torch.tensor(0.5), "load": torch.tensor([0.25, float("inf")]), "n": np.int64(3), "x": np.float32(0.5),
                   "d": {"a": (1, 2)}})
    assert log.read() == [{"step": 1, "loss": 0.1, "bad": None, "worse": None, "name": "é", "none": None, "flag": True},
                          {"step": 2, "loss": 0.5, "load": [0.25, None], "n": 3, "x": 0.5, "d": {"a": [1, 2]}}]
    assert all(json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines())
    with pytest.raises(ValueError, match="got a object"):
        log.append(3, {"what": object()})


def test_truncate_after_a_crash_then_go_on(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.truncate_after(5)
    assert not path.exists()
    for step in range(6):
        log.append(step, {"loss": step / 3})
    uninterrupted = path.read_bytes()
    path.write_bytes(uninterrupted[:-7])  # step 5 is torn
    assert [line["step"] for line in log.read()] == [0, 1, 2, 3, 4] and "1 torn line" in caplog.text
    log.truncate_after(3)
    for step in (4, 5):
        MetricsLog(path).append(step, {"loss": step / 3})
    assert path.read_bytes() == uninterrupted
    assert [p.name for p in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_a_torn_line_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    MetricsLog(path).append(3, {})
    assert [line["step"] for line in MetricsLog(path).read()] == [1, 3]
    path.write_bytes(b'[]\n5\n{"loss": 1}\n{"step": "x"}\n\xff\xfe\n{"step": 4}')
    assert MetricsLog(path).read() == [{"step": 4}]
    path.write_bytes(b"")
    assert MetricsLog(path).read() == []


def test_a_failing_disk_does_not_stop_training_and_loses_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, {"text": "x" * 50})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        for step in (2, 3, 4):
            log.append(step, {"text": "x" * 50})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caplog.text.count("cannot be written") == 1
    assert (tmp_path / "metrics.jsonl").read_bytes().count(b"step") == 1  # no part of a line either
    log.append(5, {})
    assert [line["step"] for line in log.read()] == [1, 2, 3, 4, 5]


def test_truncate_is_atomic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    log = MetricsLog(tmp_path / "metrics.jsonl")
    for step in range(3):
        log.append(step, {})
    monkeypatch.setattr(metrics_log, "atomic_write", full)
    with pytest.raises(OSError, match="No space"):
        log.truncate_after(0)
    assert len(log.read()) == 3
