"""How far off the planner's time model is: real steps on one CPU core against `ernie5 plan`, calibrated on the first size alone.

    OMP_NUM_THREADS=1 python docs/benchmarks/planner.py [--rounds 5]

The clock is CPU time of one thread; sizes take turns in every round, and the fastest round counts, because others may use the machine.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import torch
from elastic_cost import VOCABULARY, build, text_batch

from ernie5.model.config import ModelConfig
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.workload import Workload
from ernie5.planner.estimate import Estimate, Job, estimate
from ernie5.planner.hardware import HARDWARE
from ernie5.planner.parameters import ParameterTable
from ernie5.sequence import PackedSequence
from ernie5.train.optimizer import OptimizerConfig, make_optimizer

SIZES = {  # name -> model, rows, length
    "A": (ModelConfig(dim=256, num_layers=6, num_heads=8, num_kv_heads=8, num_experts=16, top_k=4, expert_dim=256), 2, 256),
    "B": (ModelConfig(dim=256, num_layers=6, num_heads=8, num_kv_heads=8, num_experts=16, top_k=4, expert_dim=256), 2, 512),
    "C": (ModelConfig(dim=512, num_layers=8, num_heads=8, num_kv_heads=4, num_experts=32, top_k=4, expert_dim=256), 2, 256),
    "D": (ModelConfig(dim=128, num_layers=6, num_heads=4, num_kv_heads=4, num_experts=16, top_k=2, expert_dim=128), 4, 256),
}


def product_rate(n: int = 1024, rounds: int = 10) -> float:
    """FLOP/s of plain float32 products, the best of some rounds."""
    a, b = torch.randn(n, n), torch.randn(n, n)
    best = float("inf")
    for _ in range(rounds):
        start = time.process_time()
        a @ b
        best = min(best, time.process_time() - start)
    return 2 * n**3 / best


def step(model: UnifiedTransformer, optimizer: torch.optim.Optimizer, batch: PackedSequence) -> float:
    """CPU seconds of one step."""
    start = time.process_time()
    next_group_loss(model(batch), model.heads, batch, TargetCounts.of(batch), Weights()).total.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.process_time() - start


def planned(model: UnifiedTransformer, rows: int, length: int, peak: float, efficiency: float) -> Estimate:
    hardware = replace(HARDWARE["cpu"], peak=peak, efficiency=efficiency)
    table = ParameterTable(model, model.config, VOCABULARY)
    work = Workload(model.config, rows=rows, length=length)
    return estimate(ParallelPlan(), Job(table, model.config, VOCABULARY, work, hardware, 1, 4))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(1)
    peak = product_rate()
    runs = {}
    for name, (config, rows, length) in SIZES.items():
        model = build(config, "cpu")
        runs[name] = model, make_optimizer(model, OptimizerConfig()), text_batch(rows, length, "cpu")
    measured = {name: float("inf") for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            seconds = step(*run)
            measured[name] = min(measured[name], seconds) if number else float("inf")
    first = next(iter(SIZES))
    _, rows, length = SIZES[first]
    low, high = 0.01, 10.0
    for _ in range(60):  # the efficiency at which the first size takes as long as it did
        middle = (low * high) ** 0.5
        slower = planned(runs[first][0], rows, length, peak, middle).step_s > measured[first]
        low, high = (middle, high) if slower else (low, middle)
    print(f"torch {torch.__version__}; plain products {peak / 1e9:.0f} GFLOP/s; efficiency {low:.2f}, from {first} alone")
    print(f"{'size':6}{'measured s':>12}{'planned s':>12}{'off by':>9}")
    for name, (_, rows, length) in SIZES.items():
        guess = planned(runs[name][0], rows, length, peak, low).step_s
        print(f"{name:6}{measured[name]:12.3f}{guess:12.3f}{guess / measured[name] - 1:+9.0%}")


if __name__ == "__main__":
    main()
