"""Bytes on the fullest rank of a stage: states + saved tensors of all passes in flight + what is needed for a moment.

    peak = weights + gradients + moments + buffers + passes * (layers and ends) + working

`working`: the layer that runs again in the backward pass, the gradient of the logits, and with zero 3 two layers' gathered weights and one
layer's gradient. Ours.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.memory import MemoryConfig
from ernie5.parallel.plan import ParallelPlan
from ernie5.planner.activations import RECOMPUTE, Numerics, audio_bytes, first_bytes, kept_bytes, last_bytes, layer_bytes
from ernie5.planner.content import Content
from ernie5.planner.parameters import Held, StateBytes, state_bytes
from ernie5.planner.placement import Cut, Stage


@dataclass(frozen=True)
class StageMemory:
    """Bytes. `if_recompute`: the activations under every choice of `parallel.memory.recompute`. `one_pass`: what one micro-batch saves
    where nothing runs again and nothing is moved away.
    """

    states: StateBytes
    buffers: float
    activations: float
    working: float
    if_recompute: dict[str, float]
    one_pass: float

    @property
    def peak(self) -> float:
        return self.states.all + self.buffers + self.activations + self.working


def stage_memory(plan: ParallelPlan, world_size: int, passes: int, model: ModelConfig, vocabulary: Vocabulary, content: Content, width: int,
                 gpu: bool, held: Held, stage: Stage, levels: int, buffers: float) -> StageMemory:
    """`levels`: audio codes that leave this stage; `content` of one micro-batch of a data rank."""
    numerics, cut = Numerics(width, gpu, 1 if plan.engine == "megatron" else 3), Cut.of(plan)

    def saved(memory: MemoryConfig) -> float:
        layers = len(stage.layers) + (1 if stage.last and model.multi_token else 0)
        if "activations" in memory.offload:
            layers = min(layers, 2)  # the one that runs and the one that is on its way
        kept = layers * kept_bytes(model, content, cut, numerics, memory)
        kept += levels * audio_bytes(model, vocabulary, content, cut, numerics)
        kept += first_bytes(vocabulary, content, cut, numerics) if stage.first else 0
        kept += last_bytes(model, vocabulary, content, cut, numerics, memory) if stage.last else 0
        return kept

    layer = layer_bytes(model, content, cut, numerics)
    working = {"none": 0.0, "selective": layer.experts + layer.copies, "full": layer.all}[plan.memory.recompute]
    if stage.last:
        working += 8 * (plan.memory.loss_chunk or content.text_targets / plan.context) * vocabulary.text / plan.tensor
    if plan.zero == 3:
        working += 3 * 4 * held.largest
    choices: dict[str, float] = {choice: stage.passes * saved(replace(plan.memory, recompute=choice)) for choice in RECOMPUTE}
    states = state_bytes(held, plan, world_size, passes)
    return StageMemory(states, buffers, choices[plan.memory.recompute], working, choices, saved(MemoryConfig()))
