"""The time at which a device has done what it was asked to."""

from __future__ import annotations

import time

import torch


def seconds_now(device: str) -> float:
    """Seconds since some moment; a GPU's work is waited for."""
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)
    return time.perf_counter()
