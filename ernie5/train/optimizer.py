"""AdamW with decay on matrices only.

Ours: decision 22 (betas 0.9, 0.95; weight decay 0.1 on matrices, none on norms, biases and embedding tables).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True)
class OptimizerConfig:
    """AdamW; the learning rate comes from the schedule."""

    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1
    clip: float = 1.0


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """Parameters in the order of their names' first appearance; tables are the weights of nn.Embedding and of modules with `is_table`."""
    tables = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding) or getattr(m, "is_table", False)}
    matrices = [p for p in model.parameters() if p.requires_grad and p.ndim >= 2 and id(p) not in tables]
    others = [p for p in model.parameters() if p.requires_grad and (p.ndim < 2 or id(p) in tables)]
    groups = [{"params": matrices, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=0.0, betas=(config.beta1, config.beta2), fused=True)
