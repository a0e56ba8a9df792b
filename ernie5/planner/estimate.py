"""The estimate of one plan: memory of every stage, FLOPs, what is sent, the bubble, and how long a step takes.

    step = (m + (p - 1) / v) * slowest stage's pass + gradients + optimizer
    pass = hardware FLOPs / (peak * efficiency) + 4 * saved bytes / memory rate + sending
    bubble = (p - 1) / v of m + (p - 1) / v passes;    mfu = model FLOPs of all tokens / (step * ranks * peak)

Nothing that is sent is taken to overlap with products: an upper bound. Experts are taken to be evenly loaded. Of stages that hold the same
the first is looked at: it keeps the most passes. Ours.
Letters: m passes (micro-batches) of a data rank, p stages, v pieces per stage.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.elastic_space import AxisConfig, ElasticConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.workload import Workload
from ernie5.planner.content import Content
from ernie5.planner.flops import Executed, rank_flops
from ernie5.planner.hardware import Hardware
from ernie5.planner.links import Flow, Groups
from ernie5.planner.memory import StageMemory, stage_memory
from ernie5.planner.parameters import Held, ParameterTable
from ernie5.planner.placement import Cut, Stage, stages_of, unlike
from ernie5.planner.traffic import gradient_traffic, pass_traffic

ELEMENTWISE = 4       # times that a saved byte goes through memory: written and read, and its gradient too
OPTIMIZER_BYTES = 28  # per parameter: weight, gradient and two moments are read, all but the gradient written


@dataclass(frozen=True)
class Job:
    """What is planned: a model's sizes, what a step carries, and on what it runs. `width`: bytes of a product's operand. `bits`: in
    words, where few bits of a vision token are on at first; all are planned for.
    """

    table: ParameterTable
    model: ModelConfig
    vocabulary: Vocabulary
    workload: Workload
    hardware: Hardware
    world_size: int
    width: int
    bits: str = ""


@dataclass(frozen=True)
class StageEstimate:
    """One rank of a stage; `sent` by axis, per step."""

    stage: Stage
    held: Held
    memory: StageMemory
    pass_s: float
    sent: dict[str, Flow]


@dataclass(frozen=True)
class Estimate:
    """`flops_per_token` of the full model, `expected_flops_per_token` as sub-models are drawn; both forward and backward, of all ranks.
    `passes` of a data rank in a step, over `content` each; `bubble` is a share of the passes' time.
    """

    plan: ParallelPlan
    stages: tuple[StageEstimate, ...]
    passes: int
    content: Content
    flops_per_token: float
    expected_flops_per_token: float
    bubble: float
    step_s: float
    mfu: float

    @property
    def fullest(self) -> StageEstimate:
        """The stage that needs the most memory."""
        return max(self.stages, key=lambda stage: stage.memory.peak)

    @property
    def peak(self) -> float:
        """Bytes of the fullest rank."""
        return self.fullest.memory.peak


def estimate(plan: ParallelPlan, job: Job) -> Estimate:
    """The plan must have passed its rules."""
    work, model, hardware = job.workload, job.model, job.hardware
    data = plan.data_size(job.world_size)
    passes, content = work.micro_batches(data), Content.of_text(work.rows_of_micro_batch(data), work.length)
    groups, expected = Groups.of(plan, job.world_size), expected_run(model, work.elastic)
    stages = tuple(_stage(plan, job, stage, content, passes, groups, expected)
                   for stage in unlike(stages_of(plan, model, job.vocabulary, passes)))
    full = Executed(model.num_layers, model.top_k)
    per_token, expected_per_token = (tokens_flops(job, content, run) / content.positions for run in (full, expected))
    bubble = (plan.pipeline - 1) / plan.virtual_pipeline
    step_s = (passes + bubble) * max(stage.pass_s for stage in stages) + max(_once_s(stage, plan, job) for stage in stages)
    mfu = expected_per_token * work.rows * work.length / (step_s * job.world_size * hardware.peak)
    return Estimate(plan, stages, passes, content, per_token, expected_per_token, bubble / (passes + bubble), step_s, mfu)


def tokens_flops(job: Job, content: Content, run: Executed) -> float:
    """Model FLOPs of a micro-batch, whoever does them."""
    levels = job.vocabulary.num_codebooks
    return rank_flops(job.model, job.vocabulary, content, Cut(), ParallelPlan().memory, run, levels, True, True).model


def expected_run(model: ModelConfig, elastic: ElasticConfig) -> Executed:
    """Means over the sub-models of a step. Drawn per sample they save no work."""
    if elastic.unit == "sample":
        return Executed(model.num_layers, model.top_k)
    return Executed(_mean(elastic.depth, model.num_layers), _mean(elastic.sparsity, model.top_k))


def _mean(axis: AxisConfig, full: int) -> float:
    smaller = sum(axis.sizes) / len(axis.sizes) if axis.sizes else full
    return full + axis.probability * (smaller - full)


def _stage(plan: ParallelPlan, job: Job, stage: Stage, content: Content, passes: int, groups: Groups, run: Executed) -> StageEstimate:
    model, hardware = job.model, job.hardware
    held = job.table.held(plan, stage)
    levels = job.table.levels_on(stage)
    executed = Executed(run.layers * len(stage.layers) / model.num_layers, run.top_k)
    flops = rank_flops(model, job.vocabulary, content, Cut.of(plan), plan.memory, executed, levels, stage.first, stage.last)
    layers = executed.layers + (1 if stage.last and model.multi_token else 0)
    per_pass = pass_traffic(plan, model, content, job.width, layers, run.top_k, stage, groups, hardware)
    sent = {axis: flow * passes for axis, flow in per_pass.items()} | {"data": gradient_traffic(plan, held, groups, hardware, passes)}
    memory = stage_memory(plan, job.world_size, passes, model, job.vocabulary, content, job.width, hardware.gpu, held, stage, levels,
                          job.table.buffer_bytes / plan.pipeline)
    touched = ELEMENTWISE * memory.one_pass * run.layers / model.num_layers
    seconds = flops.hardware / (hardware.peak * hardware.efficiency) + touched / hardware.memory_rate
    return StageEstimate(stage, held, memory, seconds + sum(flow.seconds for flow in per_pass.values()), sent)


def _once_s(stage: StageEstimate, plan: ParallelPlan, job: Job) -> float:
    """Seconds that a step takes besides its passes: exchange of gradients, and the optimizer."""
    dense, expert = plan.data_size(job.world_size) * plan.context, plan.expert_data_size(job.world_size)
    own = stage.held.dense / dense + stage.held.expert / expert if plan.zero else stage.held.all
    return stage.sent["data"].seconds + OPTIMIZER_BYTES * own / job.hardware.memory_rate
