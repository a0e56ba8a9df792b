"""Initial weights, drawn from one generator in the order of names: the same for any plan and any device.

    matrices N(0, 1/fan_in)    outputs of attention and experts x 0.3    tables N(0, 1)    heads zero

Ours: the report gives no initialisation; these were measured at small scale (docs/experiments.md).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

RESIDUAL_GAIN = 0.3


@torch.no_grad()
def init_weights(model: nn.Module, seed: int) -> None:
    """Fill every parameter of a UnifiedTransformer; norms keep their ones. A user's own modules keep their own initial values."""
    generator = torch.Generator().manual_seed(seed)

    def normal_(x: Tensor, std: float) -> None:
        if not x.is_meta:
            x.copy_(torch.randn(x.shape, generator=generator) * std)

    for name, parameter in model.named_parameters():
        if name.startswith("embeddings.understanding."):
            continue
        if parameter.ndim < 2:
            if name.endswith(".bias"):
                nn.init.zeros_(parameter)
            continue
        if name.startswith("heads."):
            nn.init.zeros_(parameter)
        elif name.startswith("embeddings.audio.") or name.startswith("codec.tables."):
            normal_(parameter, 0.5)
        elif name.startswith("embeddings.vision_scale"):
            normal_(parameter, 0.02)
        elif name == "embeddings.text.weight":
            normal_(parameter, 1.0)
        else:
            fan_in = parameter.shape[-2] if parameter.ndim == 3 else parameter.shape[-1]  # experts are stored E in out
            gain = RESIDUAL_GAIN if name.endswith(("attention.out.weight", "experts.down", "shared.down")) else 1.0
            normal_(parameter, gain * fan_in**-0.5)
    for table in model.get_submodule("codec.tables").children():
        assert isinstance(table, nn.Embedding)
        table.weight[table.padding_idx].zero_()
