"""Parameters and FLOPs of a model: all of them, and those that one token really uses.

    active = all - (experts not chosen);   FLOPs per token (forward + backward) = 6 * active matrix parameters + attention

Ours: embedding tables are looked up, not multiplied, so they count as parameters and not as FLOPs.
"""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.model.unified_transformer import UnifiedTransformer


@dataclass(frozen=True)
class ModelSize:
    """Parameter counts, and FLOPs of one trained token."""

    total: int
    active: int
    flops_per_token: float


def count(model: UnifiedTransformer, context: int, layers: float | None = None, top_k: float | None = None) -> ModelSize:
    """Sizes at a packed length of `context` positions (attention counts the full square: an upper bound under the mask).

    `active` and the FLOPs are those of a sub-model that runs `layers` layers with `top_k` experts per token (None = all); means over the
    sub-models of a step are allowed.
    """
    config = model.config
    total = sum(p.numel() for p in model.parameters())
    experts = sum(p.numel() for name, p in model.named_parameters() if ".experts." in name)
    looked_up = [model.embeddings.text, model.embeddings.vision_scale, *model.embeddings.audio, *model.codec.tables]
    tables = sum(table.weight.numel() for table in looked_up)
    layers, top_k = config.num_layers if layers is None else layers, config.top_k if top_k is None else top_k
    chosen = top_k / config.num_experts
    one_layer = sum(p.numel() * (chosen if ".experts." in name else 1.0) for name, p in model.layers[0].named_parameters())
    active = round(total - experts * (1 - chosen) - (config.num_layers - layers) * one_layer)
    attention = 12 * layers * config.dim * context
    return ModelSize(total, active, 6.0 * (active - tables) + attention)
