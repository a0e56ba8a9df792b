"""An estimate, and a ranking of plans, as text. Ours."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.activations import RECOMPUTE
from ernie5.planner.estimate import Estimate, Job, StageEstimate
from ernie5.planner.hardware import GIB
from ernie5.planner.search import Found
from ernie5.planner.ways import room, too_full

SENT = ("tensor", "context", "expert", "pipeline", "data")


def told(found: Estimate, job: Job) -> str:
    """Everything about one plan; the last line says why it cannot work, if it cannot."""
    problem = too_full(found, job)
    lines = [*_head(found, job), "", *_memory(found, job), "", *_sent(found), "", *_time(found, job)]
    return "\n".join([*lines, *(["", f"cannot work: {problem}"] if problem else [])])


def told_search(found: Sequence[Found], job: Job, shown: int = 10) -> str:
    """The fastest plans that fit."""
    if not found:
        return f"no plan fits {job.world_size} x {job.hardware.name} ({size(room(job))} each): use more of them or a smaller model"
    lines = [f"{len(found)} plans fit {job.world_size} x {job.hardware.name}; the fastest:", "",
             f"{'step s':>9} {'mfu':>6} {'bubble':>7} {'peak':>10}  plan"]
    for one in found[:shown]:
        e = one.estimate
        lines.append(f"{e.step_s:9.3g} {e.mfu:6.1%} {e.bubble:7.1%} {size(e.peak):>10}  {short(e.plan, one.micro_rows)}")
    return "\n".join([*lines, "", f"the first as key=value: {keys(found[0].estimate.plan, found[0].micro_rows)}"])


def short(plan: ParallelPlan, micro_rows: int) -> str:
    """One plan in a few words."""
    words = [f"{key} {getattr(plan, key)}" for key in ("tensor", "context", "expert", "pipeline") if getattr(plan, key) > 1]
    words += [f"in {plan.virtual_pipeline} pieces"] if plan.virtual_pipeline > 1 else []
    words += [f"zero {plan.zero}"] if plan.zero else []
    words += [f"recompute {plan.memory.recompute}"] if plan.memory.recompute != "none" else []
    return f"{plan.engine}: {', '.join([*words, f'{micro_rows} row(s) a pass'])}"


def keys(plan: ParallelPlan, micro_rows: int) -> str:
    """What to write behind a recipe's name to get this plan."""
    plain = ParallelPlan()
    degrees = ("zero", "tensor", "sequence", "expert", "pipeline", "virtual_pipeline", "context")
    words = [f"parallel.{key}={str(getattr(plan, key)).lower()}" for key in degrees if getattr(plan, key) != getattr(plain, key)]
    recompute = [f"parallel.memory.recompute={plan.memory.recompute}"] if plan.memory.recompute != "none" else []
    return " ".join([f"parallel.engine={plan.engine}", *words, *recompute, f"train.micro_rows={micro_rows}"])


def size(number: float) -> str:
    """Bytes for people."""
    for name, unit in (("GiB", GIB), ("MiB", 2.0**20)):
        if number >= unit:
            return f"{number / unit:.1f} {name}"
    return f"{number / 2**10:.0f} KiB"


def count(number: float) -> str:
    """12.3 B: parameters or FLOPs."""
    for name, unit in (("P", 1e15), ("T", 1e12), ("B", 1e9), ("M", 1e6)):
        if number >= unit:
            return f"{number / unit:.3g} {name}"
    return f"{number:.0f}"


def _head(found: Estimate, job: Job) -> list[str]:
    plan, work, total, active = found.plan, job.workload, job.table.total, job.table.active
    products = "bf16" if job.width == 2 else "fp32"
    axes = [f"data {plan.data_size(job.world_size)}"] + [
        f"{key} {getattr(plan, key)}" for key in ("tensor", "expert", "pipeline", "context") if getattr(plan, key) > 1]
    nodes = -(-job.world_size // job.hardware.per_node)
    extras = [f"in {plan.virtual_pipeline} pieces"] if plan.virtual_pipeline > 1 else []
    extras += ["sequence"] if plan.sequence else []
    return [
        f"plan        {plan.engine}: {', '.join([*axes, *extras])}, zero {plan.zero}, recompute {plan.memory.recompute}",
        f"hardware    {job.world_size} x {job.hardware.name} on {nodes} node(s), {size(job.hardware.memory)} each",
        f"model       {count(total)} parameters, {count(active)} active ({active / total:.1%}); products in {products}",
        f"step        {work.rows} rows x {work.length} positions; a data rank makes {found.passes} passes of {found.content.rows} row(s), "
        "planned as if full of text",
        *([f"bits        {job.bits} in a vision token; planned with all of them"] if job.bits else []),
    ]


def _memory(found: Estimate, job: Job) -> list[str]:
    rows: list[tuple[str, Callable[[StageEstimate], str]]] = [
        ("layers", lambda s: str(len(s.stage.layers))),
        ("parameters", lambda s: count(s.held.all)),
        ("  of experts", lambda s: count(s.held.expert)),
        ("weights", lambda s: size(s.memory.states.weights)),
        ("gradients", lambda s: size(s.memory.states.gradients)),
        ("optimizer", lambda s: size(s.memory.states.optimizer)),
        ("activations", lambda s: size(s.memory.activations)),
        *((f"  recompute {choice}", lambda s, c=choice: size(s.memory.if_recompute[c])) for choice in RECOMPUTE),  # type: ignore[misc]
        ("for a moment", lambda s: size(s.memory.working + s.memory.buffers)),
        ("peak", lambda s: size(s.memory.peak)),
    ]
    names = ["rank"] if found.plan.pipeline == 1 else [f"stage {s.stage.index + 1}" for s in found.stages]
    table = [f"{'per rank':22}" + "".join(f"{name:>12}" for name in names)]
    table += [f"{name:22}" + "".join(f"{value(stage):>12}" for stage in found.stages) for name, value in rows]
    return [*table[:-1], f"{table[-1]}   of {size(room(job))}"]


def _sent(found: Estimate) -> list[str]:
    busiest = {axis: max((stage.sent[axis] for stage in found.stages), key=lambda flow: flow.seconds) for axis in SENT}
    lines = [f"  {axis:20}{size(flow.bytes):>12}{flow.seconds:>12.3g} s" for axis, flow in busiest.items() if flow.bytes]
    return ["sent per step, by the rank that sends most", *(lines or ["  nothing"])]


def _time(found: Estimate, job: Job) -> list[str]:
    expected = found.expected_flops_per_token
    smaller = f", {count(expected)} expected with sub-models" if expected != found.flops_per_token else ""
    positions = job.workload.rows * job.workload.length
    return [
        f"FLOPs per token       {count(found.flops_per_token)}{smaller} (forward and backward, nothing counted twice)",
        f"bubble                {found.bubble:.1%}",
        f"step                  {found.step_s:.3g} s, {positions / found.step_s:,.0f} positions/s, mfu {found.mfu:.1%}",
        f"                      products at {job.hardware.efficiency:.0%} of the peak, nothing overlaps (docs/planner.md says how far off)",
    ]
