"""Which layers each stage of a pipeline owns: contiguous, at least one each, the heaviest stage as light as it can be.

    weight of a stage = its layers + (last stage) the multi-token layer and the text head, in layers by their matrix parameters per token

Stage v * pipeline + r is piece v of rank r (Megatron's interleaved order). Input embeddings are looked up and weigh nothing.
Report: §5.1. Ours: the weights; where stages weigh the same the later one gets the layer, because earlier ones keep more activations.
"""

from __future__ import annotations

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.plan import ParallelPlan


def partition(num_layers: int, num_stages: int, last: float = 0.0) -> list[range]:
    """`last`: what the last stage carries besides its layers, in layers."""
    counts = [1] * num_stages
    for _ in range(num_layers - num_stages):
        weights = [count + (last if stage == num_stages - 1 else 0.0) for stage, count in enumerate(counts)]
        lightest = min(weights)
        counts[max(stage for stage, weight in enumerate(weights) if weight == lightest)] += 1
    ends = [sum(counts[: stage + 1]) for stage in range(num_stages)]
    return [range(end - count, end) for count, end in zip(counts, ends, strict=True)]


def stages_of(plan: ParallelPlan, model: ModelConfig, vocabulary: Vocabulary) -> list[range]:
    """The layers of all stages, in order. ValueError when there are more stages than layers."""
    num_stages = plan.pipeline * plan.virtual_pipeline
    if plan.virtual_pipeline > 1 and plan.pipeline == 1:
        raise ValueError(f"parallel.virtual_pipeline = {plan.virtual_pipeline} gives pipeline ranks several pieces, and there is one rank; "
                         "use parallel.pipeline >= 2 or parallel.virtual_pipeline = 1")
    if num_stages > model.num_layers:
        raise ValueError(
            f"parallel.pipeline = {plan.pipeline} x parallel.virtual_pipeline = {plan.virtual_pipeline} makes {num_stages} stages, each "
            f"with a layer of its own, and model.num_layers = {model.num_layers}; use a product of at most {model.num_layers}")
    return partition(model.num_layers, num_stages, weight_of_last(model, vocabulary))


def weight_of_last(model: ModelConfig, vocabulary: Vocabulary) -> float:
    """Text head and multi-token module, in layers by their matrix parameters per token."""
    attention = 2 * model.dim * model.head_dim * (model.num_heads + model.num_kv_heads)
    layer = attention + 3 * model.dim * model.expert_dim * (model.top_k + model.num_shared_experts)
    head = model.dim * vocabulary.text
    return (head + model.multi_token * (layer + head)) / layer


def of_rank(stages: list[range], plan: ParallelPlan, rank: int) -> list[range]:
    """The pieces of one pipeline rank."""
    return stages[rank :: plan.pipeline]
