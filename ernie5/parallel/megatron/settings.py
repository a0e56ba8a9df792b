"""Our model's sizes and plan as megatron-core's configuration, for its layers, dispatcher, schedules and gradient buffers."""

from __future__ import annotations

import torch
from megatron.core.transformer.transformer_config import TransformerConfig

from ernie5.model.config import ModelConfig
from ernie5.parallel.plan import ParallelPlan


def check_sizes(plan: ParallelPlan, model: ModelConfig) -> None:
    """ValueError for a model that this plan cannot cut."""
    rules = [
        ("tensor", plan.tensor, "model.num_kv_heads", model.num_kv_heads),
        ("expert", plan.expert, "model.num_experts", model.num_experts),
    ]
    for key, degree, what, size in rules:
        if size % degree:
            good = [n for n in range(1, min(size, 64) + 1) if size % n == 0]
            raise ValueError(f"parallel.{key} = {degree} must divide {what} = {size}; use {', '.join(map(str, good[:-1]))} or {good[-1]}")


def transformer_config(plan: ParallelPlan, model: ModelConfig) -> TransformerConfig:
    """`calculate_per_token_loss` is how Megatron says that losses come in already divided: it then adds gradients up and scales nothing.

    Interleaved stages send and receive in both directions at once. Between two ranks these would be taken for each other in one batch of
    messages, so each direction gets a group of its own, which is how Megatron overlaps them with work.
    """
    interleaved = plan.virtual_pipeline > 1
    return TransformerConfig(
        num_layers=model.num_layers, hidden_size=model.dim, num_attention_heads=model.num_heads, num_query_groups=model.num_kv_heads,
        ffn_hidden_size=model.expert_dim, moe_ffn_hidden_size=model.expert_dim, num_moe_experts=model.num_experts,
        moe_router_topk=model.top_k, moe_router_load_balancing_type="none", moe_token_dispatcher_type="alltoall",
        tensor_model_parallel_size=plan.tensor, sequence_parallel=plan.sequence, pipeline_model_parallel_size=plan.pipeline,
        virtual_pipeline_model_parallel_size=plan.virtual_pipeline if interleaved else None,
        overlap_p2p_comm=interleaved, batch_p2p_comm=not interleaved, batch_p2p_sync=False,
        context_parallel_size=plan.context, expert_model_parallel_size=plan.expert, expert_tensor_parallel_size=1,
        add_bias_linear=False, hidden_dropout=0.0, attention_dropout=0.0, calculate_per_token_loss=True,
        params_dtype=torch.float32, pipeline_dtype=torch.float32, use_cpu_initialization=True, perform_initialization=False)
