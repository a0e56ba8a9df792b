"""Auxiliary-loss-free load balance: after every step, the bias of an overloaded expert goes down, of an idle one up.

    error_i = sum over passes that include expert i of (count_i - mean count of the experts within reach);   b_i <- b_i - u sign(error_i)

Report: §2.1, §3.2 (u = 1e-4, 1e-5 in mid-training). Ours: decision 3 (global counts; an excluded expert is neither pushed nor starved).
Letters: L layers, E experts.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ernie5.model.multi_token import MultiToken
from ernie5.model.unified_transformer import UnifiedTransformer


class RouterBalance:
    """Holds the biases of the layers that are here (all, unless the model is cut into stages), the multi-token layer last, and moves them
    once a global step.
    """

    def __init__(self, model: UnifiedTransformer, speed: float) -> None:
        layers = {index: model.layers[index] for index in model.here}
        if isinstance(model.multi_token, MultiToken):
            layers[model.config.num_layers] = model.multi_token.layer
        self.biases: dict[int, Tensor] = {index: layer.get_buffer("moe.router.balance_bias") for index, layer in layers.items()}
        self.speed = speed

    @torch.no_grad()
    def step(self, error: Tensor) -> None:
        """`L E`: count minus even count (`Hidden.load`, `Hidden.even`), summed over the passes and ranks of a step; 0 where nothing ran."""
        for layer, bias in self.biases.items():
            bias -= self.speed * error[layer].round(decimals=6).sign().to(bias.dtype)  # sums in another order differ in their last bits
