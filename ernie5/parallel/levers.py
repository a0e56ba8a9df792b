"""The memory levers of a plan, put on a model before an engine takes it.

    recompute full        every layer keeps its inputs and runs again in the backward pass
    recompute selective   only the routed experts do: their rows are top_k times as many as positions
    offload activations   what layers save waits in host memory for the backward pass
    loss_chunk            the text head makes logits for so many targets at a time (chunked_head.py)
    expert_rows           experts take so many rows at a time (expert_pieces.py)

A lever is a class put in front of a module's own, as FSDP2 does it: names, weights and hooks stay, and levers stand in front of each other.
`offload: [optimizer]` is the engines' business (host_optimizer.py, DeepSpeed's own). Report: §5.1. Ours: the form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import save_on_cpu

from ernie5.model.experts import Experts
from ernie5.model.layer import UnifiedLayer
from ernie5.model.moe import MixtureOfExperts
from ernie5.model.text_head import TextHead
from ernie5.parallel.again import Recomputed
from ernie5.parallel.chunked_head import ChunkedTextHead
from ernie5.parallel.expert_pieces import ExpertsInPieces
from ernie5.parallel.in_front import in_front
from ernie5.parallel.memory import MemoryConfig

if TYPE_CHECKING:
    from ernie5.parallel.plan import ParallelPlan


def apply_levers(model: nn.Module, memory: MemoryConfig) -> None:
    """In place; parameters keep their names and values."""
    for module in list(model.modules()):
        match module:
            case MixtureOfExperts(experts=Experts() as experts):
                if memory.recompute == "selective":
                    in_front(experts, Recomputed)
                if memory.expert_rows:
                    in_front(experts, ExpertsInPieces).most_rows = memory.expert_rows
            case UnifiedLayer():
                if memory.recompute == "full":
                    in_front(module, Recomputed)
                if "activations" in memory.offload:
                    in_front(module, Offloaded)
            case TextHead() if memory.loss_chunk:
                in_front(module, ChunkedTextHead).chunk = memory.loss_chunk


class Offloaded(nn.Module):
    """In front of a layer: what it saves waits on the host. With `Recomputed` behind it that is the layer's inputs alone."""

    def forward(self, *inputs: Any) -> Any:
        with OnHost():
            return super().forward(*inputs)


class OnHost(save_on_cpu):
    """torch's own hooks, but weights stay where they are: they lie on the device anyway."""

    def __init__(self) -> None:
        super().__init__(pin_memory=torch.cuda.is_available())
        to_host = self.pack_hook

        def pack(x: Tensor) -> tuple[torch.device, Tensor]:
            return (x.device, x.detach()) if is_weight(x) else to_host(x)

        self.pack_hook = pack


def is_weight(x: Tensor) -> bool:
    """A parameter or a view of one."""
    return isinstance(x, nn.Parameter) or isinstance(x._base, nn.Parameter)


def check_optimizer_offload(plan: ParallelPlan, elastic: bool) -> None:
    """ValueError where an engine would pass over `offload: [optimizer]` without a word, or train wrongly."""
    if "optimizer" not in plan.memory.offload:
        return
    if plan.engine == "megatron":
        raise ValueError("parallel.memory.offload = [optimizer] is nothing that parallel.engine = megatron can do; use parallel.zero = 1, "
                         "which shares the moments among data ranks, or parallel.engine = torch or deepspeed")
    if plan.engine == "deepspeed" and not plan.zero:
        raise ValueError("parallel.memory.offload = [optimizer] of parallel.engine = deepspeed needs parallel.zero = 1, 2 or 3; use one of "
                         "them, or parallel.engine = torch")
    if plan.engine == "deepspeed" and elastic:
        raise ValueError("parallel.memory.offload = [optimizer] of parallel.engine = deepspeed changes the losses where a step leaves "
                         "layers or experts out (elastic); use parallel.engine = torch, or train without elastic")
