"""What can be known of a plan before anything is built: what an engine cannot do, what does not divide, what would train wrongly.

    check_plan(plan, world_size, workload)     degrees, engine, model and shape of a step
    check_machine(plan, device)                what only the machine that runs it knows

The rules that raise no error in the engines themselves: DeepSpeed's ZeRO 3 gives a weight without gradient the gradient of the step before,
and shares different experts as if they were one (so it gets no `expert`); experts split over other tensor ranks than attention are not
summed; grouped products need rows of 16 bytes (`ModelConfig.check` asks for multiples of 8). Ours: the words.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from ernie5.parallel.plan_words import divisors, must_divide, one_of
from ernie5.parallel.workload import Workload

if TYPE_CHECKING:
    from ernie5.parallel.plan import ParallelPlan

AXES = ("tensor", "sequence", "expert", "pipeline", "virtual_pipeline", "context")
CAN: dict[str, frozenset[str]] = {  # engine -> the axes that it can split, besides data
    "torch": frozenset({"expert"}),
    "deepspeed": frozenset(),
    "megatron": frozenset(AXES),
}
ZERO: dict[str, tuple[int, ...]] = {"torch": (0, 2, 3), "deepspeed": (0, 1, 2, 3), "megatron": (0, 1)}
PACKAGES = {"deepspeed": ("deepspeed", "deepspeed"), "megatron": ("megatron.core", "megatron-core")}  # engine -> module, name for pip


def check_plan(plan: ParallelPlan, world_size: int, workload: Workload) -> None:
    """ValueError with the first reason why this plan cannot carry this workload on `world_size` processes."""
    plan.memory.check()
    for reason in reasons(plan, world_size, workload):
        raise ValueError(reason)


def check_machine(plan: ParallelPlan, device: str) -> None:
    """ValueError when this machine lacks what the plan needs; `device`: cpu or cuda."""
    if plan.engine in PACKAGES:
        module, name = PACKAGES[plan.engine]
        if not installed(module):
            raise ValueError(f"parallel.engine = {plan.engine} needs the package {name}, which is not installed here; pip install {name}")
    if plan.memory.offload and device == "cpu":
        raise ValueError(f"parallel.memory.offload = [{', '.join(plan.memory.offload)}] moves tensors from a GPU to host memory, but this "
                         "run is on the CPU; use parallel.memory.offload = []")


def reasons(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    """Why it cannot be, in the order in which they are worth knowing; each rule may count on those before it."""
    for rules in (_degrees, _engine, _world, _model, _step, _silent):
        yield from rules(plan, world_size, workload)


def _degrees(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    for key in ("tensor", "expert", "expert_tensor", "pipeline", "virtual_pipeline", "context"):
        if getattr(plan, key) < 1:
            yield f"parallel.{key} = {getattr(plan, key)} is a number of ranks; use 1 or more"
    if plan.data < 1 and plan.data != -1:
        yield f"parallel.data = {plan.data} is a number of ranks; use 1 or more, or -1 for what the other axes leave"
    if plan.expert_tensor > 1:
        yield f"parallel.expert_tensor = {plan.expert_tensor}: experts are fine-grained and stay whole; use parallel.expert_tensor = 1"
    if plan.sequence and plan.tensor == 1:
        yield "parallel.sequence = true shares positions among tensor ranks, but parallel.tensor = 1; use parallel.sequence = false"
    if plan.virtual_pipeline > 1 and plan.pipeline == 1:
        yield f"parallel.virtual_pipeline = {plan.virtual_pipeline} needs parallel.pipeline above 1; use parallel.virtual_pipeline = 1"


def _engine(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    for axis in AXES:
        value = getattr(plan, axis)
        if value != 1 and value is not False and axis not in CAN[plan.engine]:
            able = [engine for engine, axes in CAN.items() if axis in axes]
            word, off = ("true", "false") if value is True else (value, 1)
            yield (f"parallel.{axis} = {word} is nothing that parallel.engine = {plan.engine} can do; "
                   f"use parallel.{axis} = {off} or parallel.engine = {one_of(able)}")
    if plan.zero not in ZERO[plan.engine]:
        able = [engine for engine, stages in ZERO.items() if plan.zero in stages]
        other = f", or parallel.engine = {one_of(able)}" if able else ""
        yield (f"parallel.zero = {plan.zero} is nothing that parallel.engine = {plan.engine} can do; "
               f"use parallel.zero = {one_of(ZERO[plan.engine])}{other}")
    if plan.memory.loss_chunk and plan.tensor > 1:
        yield (f"parallel.memory.loss_chunk = {plan.memory.loss_chunk}: parallel.tensor = {plan.tensor} splits the text head over "
               "ranks instead; use parallel.memory.loss_chunk = 0")
    if plan.deepspeed and plan.engine != "deepspeed":
        yield (f"parallel.deepspeed sets {', '.join(sorted(plan.deepspeed))}, which parallel.engine = {plan.engine} never reads; "
               "use parallel.engine = deepspeed or leave it empty")
    if plan.deepspeed.keys() & {"fp8", "fp16"}:
        yield "parallel.deepspeed: products in fp8 or fp16 are not supported; use train.precision = bf16"


def _world(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    split = plan.tensor * plan.context * plan.pipeline
    axes = " * ".join(f"parallel.{key} = {getattr(plan, key)}" for key in ("tensor", "context", "pipeline") if getattr(plan, key) > 1)
    if world_size % split:
        yield (f"{axes} ranks must divide the {world_size} process(es); start {split} of them or a multiple, or use a product of "
               f"{one_of(divisors(world_size))}")
        return
    if plan.data != -1 and plan.data * split != world_size:
        yield (f"parallel.data = {plan.data}{' * ' + axes if axes else ''} is {plan.data * split} processes, but there are {world_size}; "
               f"use parallel.data = {world_size // split}, or -1 for what is left")
    stage = plan.stage_size(world_size)
    if stage % plan.expert:
        yield (f"parallel.expert = {plan.expert} must divide the {stage} data * tensor * context ranks that share the experts; "
               f"use {one_of(divisors(stage))}")


def _model(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    model, elastic = workload.model, workload.elastic
    yield from must_divide("parallel.tensor", plan.tensor, "model.num_heads", model.num_heads)
    yield from must_divide("parallel.tensor", plan.tensor, "model.num_kv_heads", model.num_kv_heads)
    yield from must_divide("parallel.expert", plan.expert, "model.num_experts", model.num_experts)
    if elastic.width.probability > 0:
        yield from must_divide("parallel.expert", plan.expert, "elastic.expert_blocks", elastic.expert_blocks,
                               f"or elastic.expert_blocks = {plan.expert}, so that every rank keeps equally many experts")
    pieces = plan.pipeline * plan.virtual_pipeline
    if pieces > model.num_layers:
        yield (f"parallel.pipeline = {plan.pipeline} * parallel.virtual_pipeline = {plan.virtual_pipeline} is {pieces} pieces, more than "
               f"model.num_layers = {model.num_layers}; use a product of at most {model.num_layers}")


def _step(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    data, slots = plan.data_size(world_size), workload.elastic.slots
    if workload.rows % (slots * data):
        fitting = [n for n in divisors(workload.rows) if (workload.rows // n) % slots == 0]
        way = f"use {one_of(fitting)} data ranks, or " if fitting else ""
        yield (f"elastic.slots = {slots} times {data} data rank(s) must divide the {workload.rows} rows of a step; {way}"
               f"change elastic.slots or use {slots * data} rows, or a multiple")
        return
    chunks = 2 * plan.context
    if plan.context > 1 and workload.length % chunks:
        yield (f"parallel.context = {plan.context} cuts a row into {chunks} equal chunks, which must divide train.length = "
               f"{workload.length}; use {one_of(n // 2 for n in divisors(workload.length) if n % 2 == 0)}")
        return
    micro = workload.rows_of_micro_batch(data)
    positions = micro * workload.length // plan.context
    yield from must_divide("parallel.tensor", plan.tensor, "the positions of a micro-batch", positions, "or another train.length")
    share, passes = workload.share(data), workload.micro_batches(data)
    if plan.pipeline > 1 and share % micro:
        yield (f"train.micro_rows = {micro} must divide the {share} rows that a data rank has of a slot, because all passes of a pipeline "
               f"are alike; use {one_of(divisors(share))}")
    elif plan.virtual_pipeline > 1 and passes % plan.pipeline:
        fitting = [n for n in divisors(share) if slots * (share // n) % plan.pipeline == 0]
        way = f"use train.micro_rows = {one_of(fitting)}" if fitting else f"use {plan.pipeline * data * slots} rows, or a multiple"
        yield (f"parallel.virtual_pipeline = {plan.virtual_pipeline} needs a multiple of parallel.pipeline = {plan.pipeline} passes, but a "
               f"step has {passes}; {way}")
    if plan.virtual_pipeline > 1 and workload.ramp:
        yield ("train.ramp_steps makes steps whose passes parallel.virtual_pipeline cannot take turns with; use train.ramp_steps = 0 or "
               "parallel.virtual_pipeline = 1")


def _silent(plan: ParallelPlan, world_size: int, workload: Workload) -> Iterator[str]:
    """What would run and be wrong, or what no engine knows how to do."""
    if plan.engine == "deepspeed" and plan.zero == 3 and workload.elastic.depth.probability > 0:
        yield ("parallel.zero = 3 with elastic.depth: DeepSpeed gives layers that a step left out the gradient of the step before; "
               "use parallel.zero = 2 or less, parallel.engine = torch, or elastic.depth.probability = 0")
    together = {"torch": plan.zero > 0 or plan.expert > 1, "deepspeed": plan.zero > 0, "megatron": False}[plan.engine]
    if together and workload.elastic.unit == "sample" and workload.elastic.depth.probability > 0:
        yield ("elastic.unit = sample with elastic.depth lets ranks run different layers, and they would wait for each other under "
               f"parallel.engine = {plan.engine} with zero = {plan.zero} and expert = {plan.expert}; use elastic.unit = slot or "
               "elastic.depth.probability = 0")
    if plan.pipeline > 1 and workload.own_objective:
        yield (f"train.objective is your own, but with parallel.pipeline = {plan.pipeline} parts of the loss are taken on several stages; "
               "use parallel.pipeline = 1 or train.objective = ernie5.objectives.next_group:NextGroupLoss")


def installed(module: str) -> bool:
    """Whether Python finds it; nothing is imported but the packages around it."""
    try:
        return find_spec(module) is not None
    except ModuleNotFoundError:
        return False
