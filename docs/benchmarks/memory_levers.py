"""What the memory levers save and cost on a CPU: peak memory of one forward and backward pass, and its time against none.

    OMP_NUM_THREADS=1 python docs/benchmarks/memory_levers.py [--rounds 3] [head | layers | experts]

Peak: growth of the largest resident size (Linux), every variant in a fresh process. Kept: what autograd holds between the forward and the
backward pass, besides weights. Time: CPU time of one thread, variants in turn within a round; medians of the ratios none / variant.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from ernie5.model.attention_mask import DenseMask, Where
from ernie5.model.config import ModelConfig
from ernie5.model.elastic import FULL_LAYER
from ernie5.model.experts import Experts
from ernie5.model.layer import UnifiedLayer
from ernie5.model.text_head import TextHead
from ernie5.parallel.chunked_head import ChunkedTextHead
from ernie5.parallel.expert_pieces import ExpertsInPieces
from ernie5.parallel.in_front import in_front
from ernie5.parallel.levers import apply_levers, is_weight
from ernie5.parallel.memory import MemoryConfig
from ernie5.uni_rope import rotation

ENV = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # else glibc keeps freed tensors for later, and the peak is its own
Run = Callable[[], Tensor]  # a forward pass that gives a loss


def head(variant: str) -> Run:
    """Cross-entropy of 2,048 targets, D 512, V 32,768."""
    torch.manual_seed(0)
    made = TextHead(512, 32768)
    torch.nn.init.normal_(made.weight, std=0.02)
    if variant != "none":
        in_front(made, ChunkedTextHead).chunk = int(variant.split()[-1])
    hidden, target = torch.randn(2048, 512, requires_grad=True), torch.randint(0, 32768, (2048,))
    weight, choice = torch.rand(2048), torch.zeros(2048, dtype=torch.int64)
    if variant.startswith("run again"):
        return lambda: (made.nll(hidden, target, choice) * weight).sum()
    return lambda: made.nll_sum(hidden, target, weight, choice)


def layers(variant: str) -> Run:
    """Six layers of width 256, 32 experts of width 128, top-8, two rows of 512 positions."""
    memory = {"none": MemoryConfig(), "full": MemoryConfig("full"), "selective": MemoryConfig("selective"),
              "offload (no GPU)": MemoryConfig(offload=("activations",)), "expert_rows 2048": MemoryConfig(expert_rows=2048)}[variant]
    config = ModelConfig(dim=256, num_layers=6, num_heads=8, num_kv_heads=8, num_experts=32, top_k=8, expert_dim=128)
    torch.manual_seed(0)
    stack = torch.nn.ModuleList(UnifiedLayer(config) for _ in range(6))
    for parameter in stack.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.05)
    apply_levers(stack, memory)
    zeros = torch.zeros(2, 512, dtype=torch.int64)
    where = Where(zeros, zeros, torch.arange(512).expand(2, -1), zeros - 1, zeros == 0)
    mask = DenseMask.build(where, where, 4)
    turn = rotation(torch.arange(512.0)[:, None].expand(2, -1, 3), config.head_dim, 1e4)
    start = torch.randn(2, 512, 256, requires_grad=True)

    def run() -> Tensor:
        x = start
        for layer in stack:
            x, _ = layer(x, turn, mask, zeros, FULL_LAYER)
        return x.square().sum()

    return run


def experts(variant: str) -> Run:
    """32,768 rows of width 256 on one rank's 8 experts of width 256: four times its share of 8,192."""
    torch.manual_seed(0)
    made = Experts(256, 8, 256)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.05)
    if variant != "none":
        in_front(made, ExpertsInPieces).most_rows = int(variant.split()[-1])
    rows, counts = torch.randn(32768, 256, requires_grad=True), torch.tensor([20000, 0, 4000, 4000, 4000, 500, 268, 0])
    return lambda: made(rows, counts).square().sum()


CASES: dict[str, tuple[Callable[[str], Run], tuple[str, ...]]] = {
    "head": (head, ("none", "loss_chunk 64", "loss_chunk 128", "loss_chunk 256", "run again 128")),
    "layers": (layers, ("none", "selective", "full", "offload (no GPU)", "expert_rows 2048")),
    "experts": (experts, ("none", "expert_rows 16384", "expert_rows 8192", "expert_rows 2048")),
}


def peak_mib() -> float:
    """Largest resident size of this process so far, from Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(re.findall(r"VmHWM:\s+(\d+) kB", status)[0]) / 1024


def kept_mib(run: Run) -> float:
    """Storages that autograd holds, each once."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        if not is_weight(x):
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x.detach()

    with saved_tensors_hooks(pack, lambda x: x):
        alive = run()
    assert alive.requires_grad
    return sum(kept.values()) / 2**20


def once(case: str, variant: str) -> None:
    """In a process of its own: the peak first, then what is kept."""
    run = CASES[case][0](variant)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # from now on
    before = peak_mib()
    run().backward()
    print(peak_mib() - before, kept_mib(run))


def compare(case: str, rounds: int) -> None:
    make, variants = CASES[case]
    print(f"\n{case}: {make.__doc__}\n{'':20}{'peak MiB':>10}{'kept MiB':>10}{'s':>8}   speed against none (quartiles)")
    runs = {variant: make(variant) for variant in variants}
    seconds: dict[str, list[float]] = {variant: [] for variant in variants}
    for number in range(rounds + 1):
        for variant, run in runs.items():
            start = time.process_time()
            run().backward()
            if number:
                seconds[variant].append(time.process_time() - start)
    for variant in variants:
        done = subprocess.run([sys.executable, __file__, "--one", case, variant], capture_output=True, text=True, check=True, env=ENV)
        peak, kept = map(float, done.stdout.split())
        low, middle, high = statistics.quantiles([a / b for a, b in zip(seconds["none"], seconds[variant], strict=True)], n=4)
        print(f"{variant:20}{peak:10.1f}{kept:10.1f}{statistics.median(seconds[variant]):8.3f}   {middle:.3f} ({low:.3f} – {high:.3f})",
              flush=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("cases", nargs="*", default=list(CASES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=2)
    args = parser.parse_args()
    if args.one:
        once(*args.one)
        return
    print(f"torch {torch.__version__}, {torch.get_num_threads()} thread(s)")
    for case in args.cases:
        compare(case, args.rounds)


if __name__ == "__main__":
    main()
