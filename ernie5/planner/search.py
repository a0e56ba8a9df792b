"""All sensible plans of a recipe on so many ranks, the fastest first.

Degrees are powers of two (pipelines: divisors of the ranks), tensor ranks stay on one node, a context rank keeps 2048 positions or more;
of the choices of recompute the first that fits is taken, because what runs again takes time. What is set on the command line stays. Ours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from typing import get_args, get_type_hints

from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.plan_rules import ZERO, reasons
from ernie5.parallel.plan_words import divisors
from ernie5.planner.activations import RECOMPUTE
from ernie5.planner.estimate import Estimate, Job, estimate
from ernie5.planner.ways import fits, room
from ernie5.run.progress import progress

SHOW_FROM = 3000   # candidates, about two seconds
DEEPEST = 32       # pipeline ranks


@dataclass(frozen=True)
class Found:
    """A plan with its rows per micro-batch."""

    estimate: Estimate
    micro_rows: int


def search(plan: ParallelPlan, job: Job, fixed: frozenset[str]) -> list[Found]:
    """Every plan that fits, fastest first; `fixed`: keys of `plan` (and `micro_rows`, `recompute`) that stay as they are."""
    candidates = [c for c in _candidates(plan, job, fixed) if not next(reasons(c[0], job.world_size, c[1].workload), "")]
    found: list[Found] = []
    if len(candidates) < SHOW_FROM:
        found = [f for c in candidates if (f := _fitting(*c, fixed))]
    else:
        with progress("plans", len(candidates)) as bar:
            for candidate in candidates:
                if fit := _fitting(*candidate, fixed):
                    found.append(fit)
                bar.advance()
    return sorted(found, key=lambda f: (f.estimate.step_s, f.estimate.peak))


def _fitting(plan: ParallelPlan, job: Job, fixed: frozenset[str]) -> Found | None:
    for choice in (plan.memory.recompute,) if "recompute" in fixed else RECOMPUTE:
        result = estimate(replace(plan, memory=replace(plan.memory, recompute=choice)), job)
        if fits(result, job):
            return Found(result, result.content.rows)
        if result.fullest.memory.states.all > room(job):
            return None  # nothing that runs again helps
    return None


def _candidates(plan: ParallelPlan, job: Job, fixed: frozenset[str]) -> Iterator[tuple[ParallelPlan, Job]]:
    """Plans whose ranks make up the world; the rules decide on the rest."""
    work, model, world = job.workload, job.model, job.world_size
    engines = _free("engine", get_args(get_type_hints(ParallelPlan)["engine"]), plan, fixed)
    tensors = _free("tensor", [n for n in _powers(job.hardware.per_node) if model.num_kv_heads % n == 0], plan, fixed)
    contexts = _free("context", _powers(max(1, work.length // 2048)), plan, fixed)
    pipelines = _free("pipeline", [n for n in divisors(world) if n <= min(DEEPEST, model.num_layers)], plan, fixed)
    experts = _free("expert", [n for n in _powers(min(world, model.num_experts)) if model.num_experts % n == 0], plan, fixed)
    for engine, tensor, context, pipeline, expert in product(engines, tensors, contexts, pipelines, experts):
        split = tensor * context * pipeline
        if world % split or (engine != "megatron" and split > 1) or plan.data not in (-1, world // split):
            continue
        virtuals = [n for n in (1, 2, 4) if pipeline * n <= model.num_layers] if pipeline > 1 else [1]
        data = world // split
        shares = [n for n in _powers(16) if n <= max(1, work.share(data))] if "micro_rows" not in fixed else [work.micro_rows]
        zeros = [0] if data * context == 1 else ZERO[engine]
        for zero, virtual, micro in product(_free("zero", zeros, plan, fixed), _free("virtual_pipeline", virtuals, plan, fixed), shares):
            sequence = plan.sequence if "sequence" in fixed else tensor > 1
            yield replace(plan, engine=engine, tensor=tensor, sequence=sequence, context=context, pipeline=pipeline, expert=expert,
                          zero=zero, virtual_pipeline=virtual), replace(job, workload=replace(work, micro_rows=micro))


def _free(key: str, values, plan: ParallelPlan, fixed: frozenset[str]) -> list:
    return [getattr(plan, key)] if key in fixed else list(values)


def _powers(most: int) -> list[int]:
    return [2**i for i in range(most.bit_length())]
