"""The profiler trace of chosen steps, and MFU where a device's peak is known."""

import json

import pytest
import torch
from micro_run import micro_recipe, run_micro

from ernie5.train import mfu


def test_chosen_steps_are_traced_and_nothing_else_changes(micro, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(mfu, "device_peak", lambda device: 1e12)
    run = run_micro(micro_recipe(tmp_path / "run", micro.folder, "train.profile_steps=[2, 4]"))
    events = json.loads((run.folder / "logs" / "trace.json").read_bytes())["traceEvents"]
    names = {event["name"] for event in events}
    assert {"step 2", "step 4", "aten::mm"} <= names and not {"step 1", "step 3"} & names
    assert [path.name for path in sorted((run.folder / "logs").iterdir())] == ["rank-0.log", "trace.json"]
    metrics = run.metrics
    used = [line.pop("mfu") for line in metrics]
    assert metrics == micro.metrics and all(0 < share < 1 for share in used)


def test_mfu_of_known_devices_only() -> None:
    assert mfu.peak_flops("NVIDIA H200") == mfu.peak_flops("NVIDIA H100 80GB HBM3") == 989e12
    assert mfu.peak_flops("NVIDIA H100 PCIe") == 756e12 and mfu.peak_flops("NVIDIA H20") == 148e12
    assert mfu.peak_flops("A new device") is None and mfu.device_peak(torch.device("cpu")) is None
    assert mfu.mfu(tokens_per_s=1e6, flops_per_token=1e9, peak=1e15, num_devices=4) == pytest.approx(0.25)
