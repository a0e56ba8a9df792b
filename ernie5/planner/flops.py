"""FLOPs of one micro-batch on one rank: two for every multiplication of a matrix product, and nothing else.

    forward: 2 m n k of every product;  attention 4 T S' H C (the full square: an upper bound under the mask)
    backward: twice the forward pass, once where the input needs no gradient;  recomputed parts run forward again

Model FLOPs are those of forward and backward, hardware FLOPs also what runs again. A test holds them equal to torch's FlopCounterMode with
the loop of experts and attention as plain products (it counts neither grouped products nor CPU flash attention). Ours.
Letters: T positions, S' keys, D width, H heads, C head width, E experts, K chosen, F expert width, m targets, V text ids, d bits.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.memory import MemoryConfig
from ernie5.planner.content import Content
from ernie5.planner.placement import Cut


@dataclass(frozen=True)
class LayerFlops:
    """Forward FLOPs of one layer; `one_expert`: of the routed experts with a single one per token."""

    attention: float
    router: float
    one_expert: float
    shared: float

    def forward(self, top_k: float) -> float:
        return self.attention + self.router + self.shared + top_k * self.one_expert


def layer_flops(model: ModelConfig, content: Content, cut: Cut) -> LayerFlops:
    """One layer on one rank; experts at even load."""
    here = content.positions / cut.context
    inside = here / cut.tensor
    q, kv = (n * model.head_dim / cut.tensor for n in (model.num_heads, model.num_kv_heads))
    attention = 2 * here * model.dim * (2 * q + 2 * kv) + 4 * here * content.length * q
    one = 6 * inside * model.dim * model.expert_dim
    return LayerFlops(attention, 2 * inside * model.dim * model.num_experts, one, one * model.num_shared_experts)


def last_flops(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut) -> float:
    """Forward: text and vision heads, and the map of the multi-token module (its layer counts as one more)."""
    text = content.text_targets + (content.next_targets if model.multi_token else 0)
    heads = text * vocabulary.text / cut.tensor + content.vision_targets * vocabulary.bits
    mix = content.positions * 2 * model.dim if model.multi_token else 0
    return 2 * model.dim * (heads + mix) / cut.context


def audio_flops(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut) -> float:
    """Forward: the head of one level of audio codes."""
    return 2 * model.dim * content.audio_targets * (vocabulary.codebook_size + 1) / cut.context


def read_flops(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut) -> float:
    """Forward: the linear map of vision features, whose input needs no gradient."""
    return 2 * model.dim * content.vision_reads * vocabulary.bits / cut.context


@dataclass(frozen=True)
class Flops:
    """Of one micro-batch on one rank, forward and backward."""

    model: float
    hardware: float


@dataclass(frozen=True)
class Executed:
    """What one pass runs of a rank's layers: how many of them, and experts per token; means over the sub-models of a step. The layer of the
    multi-token module runs always, and is counted beside them.
    """

    layers: float
    top_k: float


def rank_flops(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut, memory: MemoryConfig, executed: Executed,
               levels: int, first: bool, last: bool) -> Flops:
    """A stage with so many layers and audio levels, and the ends of the model that it holds."""
    layer = layer_flops(model, content, cut)
    num = executed.layers + (1 if last and model.multi_token else 0)
    layers = num * layer.forward(executed.top_k)
    ends = levels * audio_flops(model, vocabulary, content, cut) + (last_flops(model, vocabulary, content, cut) if last else 0)
    reads = read_flops(model, vocabulary, content, cut) if first else 0
    again = {"none": 0.0, "selective": num * executed.top_k * layer.one_expert, "full": layers}[memory.recompute]
    if memory.loss_chunk and last:
        again += last_flops(model, vocabulary, content, cut)
    once = 3 * (layers + ends) + 2 * reads
    return Flops(once, once + again)
