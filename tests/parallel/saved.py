"""What a rank of a real engine holds and saves for the backward pass, and what the planner says of it."""

from __future__ import annotations

import dataclasses

import torch
from parity import make_engine, plan_of
from tiny_world import SMALL, VOCABULARY, batch, small_model
from torch import Tensor

from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import NextGroupLoss, TargetCounts
from ernie5.parallel.engine import MicroBatch
from ernie5.parallel.world import World
from ernie5.planner.content import Content
from ernie5.planner.memory import StageMemory, stage_memory
from ernie5.planner.parameters import ParameterTable
from ernie5.planner.placement import stages_of
from ernie5.train.training import Objective

MODELS = {
    "narrow": dataclasses.replace(SMALL, num_heads=4, num_kv_heads=2),
    "sparse": dataclasses.replace(SMALL, dim=64, num_heads=4, num_kv_heads=2, num_experts=16, top_k=4, expert_dim=32),
    "shared": dataclasses.replace(SMALL, dim=128, num_heads=4, num_kv_heads=4, num_shared_experts=1, multi_token=False, expert_dim=64),
}
ROWS = (["text_to_image", "text_to_audio"], ["text", "text_to_video"])


def measure(world: World, settings: dict, model: str) -> tuple[int, int]:
    """Bytes of the weights of this rank, and of what it saves of one pass over its rows."""
    engine = make_engine(world, settings, False, MODELS[model])
    share = len(ROWS) // engine.data_size
    packed = batch(list(ROWS[engine.data_rank * share : (engine.data_rank + 1) * share]))
    given = (*engine.model.parameters(), *(value for value in vars(packed).values() if isinstance(value, Tensor)))
    known = {tensor.untyped_storage().data_ptr() for tensor in given}
    saved: dict[int, Tensor] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    objective = Objective(NextGroupLoss(), engine.model)
    objective.begin(TargetCounts.of(packed), Weights())
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        engine.forward_backward([MicroBatch(packed)], objective)
    return sum(p.nbytes for p in engine.model.parameters()), sum(t.untyped_storage().nbytes() for t in saved.values())


def planned(settings: dict, model: str, world_size: int, rank: int) -> StageMemory:
    plan, config = plan_of(settings), MODELS[model]
    share = len(ROWS) // plan.data_size(world_size)
    content = Content.of(batch(list(ROWS[rank * share : (rank + 1) * share] if share < len(ROWS) else ROWS)))
    table, stage = ParameterTable(small_model(config), config, VOCABULARY), stages_of(plan, config, VOCABULARY, 1)[0]
    held = table.held(plan, stage)
    return stage_memory(plan, world_size, 1, config, VOCABULARY, content, 4, False, held, stage, 3, table.buffer_bytes)


