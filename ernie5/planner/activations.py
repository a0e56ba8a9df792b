"""Bytes that autograd keeps for the backward pass of one micro-batch on one rank, from the shapes that it really saves.

    attention   norm, input, q k v out (rotated), their norms; the dense mask of the CPU path
    router      scores, choices, places            experts   rows T*K: input, both halves, gate, product, output
    heads       hidden states and log-probabilities of targets

A test holds the sum within 10 % of what `saved_tensors_hooks` sees. w = bytes of a product's operand (2 under bf16 autocast, else 4); the
residual stream, norms, router and losses are float32. Fused norms keep input and scale, others the normalised input too. Ours.
Letters: T positions, D width, H heads, C head width, E experts, K chosen, F expert width, M = T*K rows, m targets, V text ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.parallel.memory import MemoryConfig
from ernie5.planner.content import Content
from ernie5.planner.placement import Cut

RECOMPUTE: tuple[Literal["none", "selective", "full"], ...] = ("none", "selective", "full")


@dataclass(frozen=True)
class Numerics:
    """`width`: bytes of a product's operand. `fused`: norms keep no normalised input, attention no dense mask (GPU). `casts`: so many
    copies of the attention's input are made under autocast: one for each of q, k and v, or one for all (Megatron engine).
    """

    width: int
    fused: bool
    casts: int = 3


@dataclass(frozen=True)
class LayerBytes:
    """Saved by one layer. `copies`: the experts' weights in the width of products, which stay until the backward pass."""

    attention: float
    router: float
    experts: float
    copies: float

    @property
    def all(self) -> float:
        return self.attention + self.router + self.experts + self.copies


def layer_bytes(model: ModelConfig, content: Content, cut: Cut, numerics: Numerics) -> LayerBytes:
    """One layer, nothing recomputed."""
    w, dim = numerics.width, model.dim
    here = content.positions / cut.context
    outside, inside = here / cut.outside, here / cut.tensor   # between products; for the experts, which tensor ranks share by position
    heads, kv_heads = model.num_heads / cut.tensor, model.num_kv_heads / cut.tensor
    q, kv = heads * model.head_dim, kv_heads * model.head_dim
    gathered = kv * cut.context                               # keys and values of the whole row
    norm = _norm(dim, numerics)
    operand = numerics.casts * w * dim if w == 2 else 4 * dim
    qk_norms = (q + kv) * (4 if numerics.fused and w == 4 else 8) + 4 * (heads + kv_heads)
    mask = 0 if numerics.fused else w * content.length
    copies = w * dim * (q + 2 * kv + q) if w == 2 else 0
    attention = outside * norm + here * (operand + qk_norms + 3 * w * q + 2 * w * gathered + 4 * heads + mask)
    chosen = model.top_k
    router = outside * norm + inside * (4 * dim + 4 * model.num_experts + 4 + chosen * (8 + 4 + 8 + 8 + w))
    shared = model.num_shared_experts * model.expert_dim
    experts = inside * w * (chosen * (2 * dim + 4 * model.expert_dim) + 4 * shared + (dim if shared and w == 2 else 0))
    if w == 2:
        copies += w * 3 * dim * (model.num_experts / cut.expert * model.expert_dim + shared)
    return LayerBytes(attention, router, experts, copies)


def kept_bytes(model: ModelConfig, content: Content, cut: Cut, numerics: Numerics, memory: MemoryConfig) -> float:
    """What one layer keeps from its forward to its backward pass."""
    layer = layer_bytes(model, content, cut, numerics)
    match memory.recompute:
        case "full":
            return 4 * model.dim * content.positions / cut.context / cut.outside
        case "selective":  # the experts' rows as they went in, and what came out
            rows = content.positions / cut.context / cut.tensor * model.top_k
            return layer.attention + layer.router + rows * model.dim * (4 + numerics.width)
        case "none":
            return layer.all


def first_bytes(vocabulary: Vocabulary, content: Content, cut: Cut, numerics: Numerics) -> float:
    """Embeddings: the places of rows, and under autocast what the linear map of vision features reads."""
    reads = numerics.width * content.vision_reads * vocabulary.bits if numerics.width == 2 else 0
    return (content.positions * 8 + reads) / cut.context


def last_bytes(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut, numerics: Numerics, memory: MemoryConfig) -> float:
    """Final norm, heads, loss, and the ends of the multi-token module (its layer counts as one more)."""
    w, dim = numerics.width, model.dim
    here = content.positions / cut.context / cut.outside
    text, following, vision = (n / cut.context for n in (content.text_targets, content.next_targets, content.vision_targets))
    kept = here * _norm(dim, numerics) + (text + vision) * dim * w
    if model.multi_token:
        kept += here * _norm(dim, numerics) + following * (2 * _norm(dim, numerics) + w * dim) + here * 2 * w * dim
    kept += vision * vocabulary.bits * 8
    kept += _text_losses(text, following if model.multi_token else 0, vocabulary.text / cut.tensor, memory.loss_chunk)
    return kept


def audio_bytes(model: ModelConfig, vocabulary: Vocabulary, content: Content, cut: Cut, numerics: Numerics) -> float:
    """One level of audio codes."""
    frames = content.audio_targets / cut.context
    return frames * (_norm(model.dim, numerics) + numerics.width * model.dim + 4 * (vocabulary.codebook_size + 1))


def _norm(dim: int, numerics: Numerics) -> float:
    """Of one position: input and scale, and the normalised input where the norm is not fused."""
    return 4 * dim + 4 + (0 if numerics.fused else 4 * dim)


def _text_losses(text: float, following: float, ids: float, chunk: int) -> float:
    """Log-probabilities, and which ids were excluded; of all targets, or of one piece at a time."""
    if chunk:
        return chunk * ids * 5
    return text * ids * 5 + following * ids * 4
