"""Model FLOPs utilization: which part of the devices' peak rate goes into the model's own products.

    mfu = tokens per second * FLOPs per token / (devices * peak)          real tokens only: padding is waste

Known for the devices below, in bf16; elsewhere `mfu` is absent from the metrics. Ours: dense peak rates from the vendors' data sheets.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ernie5.model.count import count
from ernie5.model.unified_transformer import UnifiedTransformer

# name of the device contains -> bf16 TFLOP/s without sparsity; the first match counts
PEAK_TFLOPS = {
    "B200": 2250.0,
    "GH200": 989.0,
    "H200": 989.0,
    "H100 PCIe": 756.0,
    "H100 NVL": 835.0,
    "H100": 989.0,
    "H800": 989.0,
    "H20": 148.0,
    "A100": 312.0,
    "A800": 312.0,
    "L40S": 362.0,
    "RTX 4090": 165.0,
    "RTX 3090": 71.0,
}


def peak_flops(device_name: str) -> float | None:
    """bf16 FLOP/s of a device by its name, None where unknown."""
    return next((tflops * 1e12 for name, tflops in PEAK_TFLOPS.items() if name in device_name), None)


def device_peak(device: torch.device) -> float | None:
    """`peak_flops` of a torch device; None for a CPU."""
    return peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None


def mfu(tokens_per_s: float, flops_per_token: float, peak: float, num_devices: int) -> float:
    """Share of the peak, 0 to 1. `tokens_per_s` of all devices together, `peak` in FLOP/s of one."""
    return tokens_per_s * flops_per_token / (num_devices * peak)


class Utilization:
    """`meter(metrics, length)` -> {"mfu": …} of what the step's sub-models did, or {} where the peak is unknown or products run in fp32."""

    def __init__(self, model: UnifiedTransformer, device: torch.device, num_devices: int, precision: str) -> None:
        self.model, self.num_devices = model, num_devices
        self.peak = None if precision == "fp32" else device_peak(device)

    def __call__(self, metrics: Mapping[str, float], length: int) -> dict[str, float]:
        if self.peak is None:
            return {}
        size = count(self.model, length, metrics["elastic/layers"], metrics["elastic/top_k"])
        return {"mfu": mfu(metrics["tokens_per_s"], size.flops_per_token, self.peak, self.num_devices)}
