"""What one rank sends along every axis of a plan: per micro-batch, and once per step.

    tensor     two all-reduces of T D for the attention, two gathers around the experts (none where positions are split)
    context    keys and values of the row, and their gradients                expert   rows there and back, forward and backward
    pipeline   the residual stream forward and its gradient backward, per piece of the model
    data       gradients are scattered once a step (DeepSpeed's zero 2 and 3: in every pass); then gradients or weights are gathered, under
               zero 3 twice in every pass

Ours; letters: T positions of a pass, D width, M = T*K rows.
"""

from __future__ import annotations

from ernie5.model.config import ModelConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.content import Content
from ernie5.planner.hardware import Hardware
from ernie5.planner.links import Flow, Groups, all_reduce, all_to_all, gather, send
from ernie5.planner.parameters import Held
from ernie5.planner.placement import Stage


def pass_traffic(plan: ParallelPlan, model: ModelConfig, content: Content, width: int, layers: float, top_k: float, stage: Stage,
                 groups: Groups, hardware: Hardware) -> dict[str, Flow]:
    """Axis -> of one micro-batch through the `layers` that a rank of this stage runs (the multi-token layer among them)."""
    here = content.positions / plan.context
    stream = here * model.dim * width
    forward = 1.5 if plan.memory.recompute == "full" else 1.0  # a layer that runs again talks again
    tensor = all_reduce(stream, groups.tensor, hardware) * 2
    if not plan.sequence:
        tensor += gather(stream, groups.tensor, hardware) * 2
    ends = all_reduce(stream, groups.tensor, hardware) * (stage.first + stage.last)
    keys = 2 * here * plan.context * model.num_kv_heads * model.head_dim / plan.tensor * width
    row_bytes = here / plan.tensor * top_k * model.dim * (4 + width)  # there from the norm in float32, back as products are
    edge = here * model.dim * 4 / (plan.tensor if plan.sequence else 1)
    edges = plan.virtual_pipeline - 0.5 * (stage.first + stage.last)
    return {
        "tensor": tensor * (layers * forward) + ends,
        "context": gather(keys, groups.context, hardware) * (2 * layers * forward),
        "expert": all_to_all(row_bytes / 2, groups.expert, hardware) * (4 * layers * forward),
        "pipeline": send(edge, groups.pipeline, hardware) * (2 * edges),
    }


def gradient_traffic(plan: ParallelPlan, held: Held, groups: Groups, hardware: Hardware, passes: int) -> Flow:
    """Of one step: gradients and, where weights are shared, weights; both float32."""
    once = gather(4.0 * held.dense, groups.dense, hardware) + gather(4.0 * held.expert, groups.expert_data, hardware)
    scatters = 1 if plan.engine == "torch" or plan.zero < 2 else passes
    return once * (scatters + (2 * passes if plan.zero == 3 else 1))
