"""Rates and sizes of the devices that plans are made for. Peak rates are dense bf16, bandwidths per device and direction.

    h100   DGX H100: 989 TFLOP/s, 80 GB at 3.35 TB/s, NVLink 900 GB/s both ways, one 400 Gb/s adapter a GPU
    h200   DGX H200: the same with 141 GB at 4.8 TB/s
    a100   DGX A100: 312 TFLOP/s, 80 GB at 2.04 TB/s, NVLink 600 GB/s both ways, 200 Gb/s a GPU
    b200   DGX B200: 2250 TFLOP/s, 180 GB at 8 TB/s, NVLink 1.8 TB/s both ways, 400 Gb/s a GPU
    cpu    one core of a two-core server in float32: rates and efficiency measured, docs/benchmarks/planner.py; links assumed

Sources: NVIDIA's data sheets of these systems. Ours: the efficiency of GPUs, the share of the peak that products reach while they run, and
the latency of a collective are assumptions, not measurements; usable memory is what the driver leaves of the size on the box.
"""

from __future__ import annotations

from dataclasses import dataclass

GIB = 2.0**30


@dataclass(frozen=True)
class Hardware:
    """One device. FLOP/s, bytes, bytes/s, seconds; `link` inside a node, `network` between nodes; `latency_s` of one collective."""

    name: str
    peak: float
    efficiency: float
    memory: float
    memory_rate: float
    link: float
    network: float
    latency_s: float
    per_node: int
    gpu: bool = True


HARDWARE = {h.name: h for h in (
    Hardware("h100", 989e12, 0.45, 79 * GIB, 3.35e12, 450e9, 50e9, 20e-6, 8),
    Hardware("h200", 989e12, 0.45, 140 * GIB, 4.8e12, 450e9, 50e9, 20e-6, 8),
    Hardware("a100", 312e12, 0.50, 79 * GIB, 2.04e12, 300e9, 25e9, 20e-6, 8),
    Hardware("b200", 2250e12, 0.40, 178 * GIB, 8e12, 900e9, 50e9, 20e-6, 8),
    Hardware("cpu", 90e9, 0.78, 12 * GIB, 20e9, 1e9, 1e9, 300e-6, 2, gpu=False),
)}
FILL = 0.95  # of usable memory: the rest is what the allocator loses between blocks, and the libraries' own


def hardware_named(name: str) -> Hardware:
    """ValueError for an unknown one."""
    if name not in HARDWARE:
        raise ValueError(f"--gpu {name} is not known; use {', '.join(HARDWARE)}")
    return HARDWARE[name]
