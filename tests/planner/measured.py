"""What one rank of a plan really saves and multiplies, measured in one process: its rows, and a model cut to the size that the rank holds.

A rank with half of the experts gets, at even load, as many rows as before for half as many experts (`HalfExperts`); one of two tensor
ranks has half of the heads, and half of the positions for the experts (`HalfPositions`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import torch
from tiny_world import small_model
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint
from torch.utils.flop_counter import FlopCounterMode

from ernie5.model.config import ModelConfig
from ernie5.model.experts import Experts
from ernie5.model.layer import UnifiedLayer
from ernie5.model.moe import MixtureOfExperts
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.objectives.modality_weights import Weights
from ernie5.objectives.next_group import TargetCounts, next_group_loss
from ernie5.sequence import PackedSequence
from ernie5.train.optimizer import OptimizerConfig, make_optimizer


class HalfExperts(nn.Module):
    """Rows of all experts, run by half as many."""

    def __init__(self, whole: Experts) -> None:
        super().__init__()
        num, dim, _ = whole.up.shape
        self.fewer = type(whole)(dim, num // 2, whole.down.shape[1])
        for parameter in self.fewer.parameters():
            nn.init.normal_(parameter, std=0.1)

    def forward(self, x: Tensor, counts: Tensor) -> Tensor:
        return self.fewer(x, counts.view(-1, 2).sum(dim=1))


class HalfPositions(nn.Module):
    """The mixture of experts on the first half of the positions."""

    def __init__(self, whole: MixtureOfExperts) -> None:
        super().__init__()
        self.whole = whole

    def forward(self, x: Tensor, kind: Tensor, sub):
        y, routed = self.whole(x[: len(x) // 2], kind[: len(x) // 2], sub)
        return torch.cat([y, torch.zeros_like(y)]), routed


def cut_experts(model: UnifiedTransformer) -> None:
    for module in list(model.modules()):
        if isinstance(module, MixtureOfExperts):
            module.experts = HalfExperts(module.experts)


def cut_tensor(model: UnifiedTransformer) -> None:
    for module in list(model.modules()):
        if isinstance(module, UnifiedLayer):
            attention = module.attention
            for name in ("query", "key", "value"):
                whole = getattr(attention, name)
                setattr(attention, name, nn.Linear(whole.in_features, whole.out_features // 2, bias=False))
            attention.out = nn.Linear(attention.out.in_features // 2, attention.out.out_features, bias=False)
            module.moe = HalfPositions(module.moe)


def built(config: ModelConfig, cut: Callable[[UnifiedTransformer], None] | None, loop: bool = False) -> UnifiedTransformer:
    model = small_model(dataclasses.replace(config, experts="loop" if loop else "grouped"))
    if cut is not None:
        cut(model)
    return model


def loss(model: UnifiedTransformer, packed: PackedSequence) -> Tensor:
    return next_group_loss(model(packed), model.heads, packed, TargetCounts.of(packed), Weights()).total


def saved_bytes(model: UnifiedTransformer, packed: PackedSequence, bf16: bool = False, kept: list[Tensor] | None = None) -> int:
    """Bytes of all different storages that autograd saves, and of `kept`, without parameters and the batch itself."""
    known = {t.untyped_storage().data_ptr() for t in (*model.parameters(), *(v for v in vars(packed).values() if isinstance(v, Tensor)))}
    saved: dict[int, Tensor] = {}  # holding the tensors keeps addresses from being used twice

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in known:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        total = loss(model, packed)
    for tensor in kept or []:
        pack(tensor)
    total.backward()
    return sum(tensor.untyped_storage().nbytes() for tensor in saved.values())


def run_again(model: UnifiedTransformer, which: type[nn.Module]) -> list[Tensor]:
    """Make modules of a kind run again in the backward pass; a list of their inputs, filled by the forward pass."""
    inputs: list[Tensor] = []

    def again(forward):
        def wrapped(x: Tensor, *others):
            inputs.append(x)
            return checkpoint(forward, x, *others, use_reentrant=False)
        return wrapped

    for module in model.modules():
        if isinstance(module, which):
            module.forward = again(module.forward)
    return inputs


def state_bytes(model: UnifiedTransformer) -> tuple[int, int, int]:
    """Weights, gradients and moments after a step; call after a backward pass."""
    optimizer = make_optimizer(model, OptimizerConfig())
    optimizer.step()
    moments = sum(t.nbytes for state in optimizer.state.values() for name, t in state.items() if name != "step")
    return (sum(p.nbytes for p in model.parameters()), sum(p.grad.nbytes for p in model.parameters() if p.grad is not None), moments)


def counted_flops(model: UnifiedTransformer, packed: PackedSequence) -> int:
    """Forward and backward, by torch's own counter: it knows plain products, so experts must be the loop."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH):
        loss(model, packed).backward()
    return counter.get_total_flops()
