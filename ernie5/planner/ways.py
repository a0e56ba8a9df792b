"""Why a plan does not fit into memory, and which single changes of it would. Ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.plan_rules import ZERO, reasons
from ernie5.planner.estimate import Estimate, Job, estimate
from ernie5.planner.hardware import FILL, GIB


def room(job: Job) -> float:
    """Bytes that a rank may fill."""
    return FILL * job.hardware.memory


def fits(found: Estimate, job: Job) -> bool:
    return found.peak <= room(job)


def too_full(found: Estimate, job: Job) -> str:
    """The reason in words, or an empty text where it fits."""
    if fits(found, job):
        return ""
    where = f"stage {found.fullest.stage.index + 1} of {found.plan.pipeline}" if found.plan.pipeline > 1 else "a rank"
    text = f"{where} needs {found.peak / GIB:.1f} GiB, and {job.hardware.name} has {room(job) / GIB:.1f} GiB for it"
    ways = [f"{words} needs {other.peak / GIB:.1f} GiB" for words, other in changed(found.plan, job) if fits(other, job)]
    return f"{text}; {', '.join(ways) or 'no single change of recompute, zero, micro_rows or loss_chunk is enough: try --search'}"


def changed(plan: ParallelPlan, job: Job) -> Iterator[tuple[str, Estimate]]:
    """One lever after the other, the cheapest first."""
    work, memory = job.workload, plan.memory
    if memory.recompute == "none":
        yield "parallel.memory.recompute = selective", estimate(replace(plan, memory=replace(memory, recompute="selective")), job)
    if memory.recompute != "full":
        yield "parallel.memory.recompute = full", estimate(replace(plan, memory=replace(memory, recompute="full")), job)
    if not memory.loss_chunk and plan.tensor == 1:
        yield "parallel.memory.loss_chunk = 1024", estimate(replace(plan, memory=replace(memory, loss_chunk=1024)), job)
    if work.rows_of_micro_batch(plan.data_size(job.world_size)) > 1:
        smaller = replace(job, workload=replace(work, micro_rows=1))
        if not next(reasons(plan, job.world_size, smaller.workload), ""):
            yield "train.micro_rows = 1", estimate(plan, smaller)
    for zero in ZERO[plan.engine]:
        other = replace(plan, zero=zero)
        if zero > plan.zero and not next(reasons(other, job.world_size, work), ""):
            yield f"parallel.zero = {zero}", estimate(other, job)
