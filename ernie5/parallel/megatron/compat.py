"""megatron-core 0.16.1 asks for CUDA by name in places that need none; here those places run on the CPU. Nothing is done where CUDA is.

    device      torch.cuda.current_device() is the CPU                     mappings, gradient buffers
    literals    device="cuda" in the schedules and the optimizer is "cpu"  schedules.py, optimizer.py
    splits      the dispatcher's row counts become numbers                 token_dispatcher.py copies them only from a GPU
    types       Tensor.type() says "torch.cuda.FloatTensor"                distrib_optimizer.py, while an optimizer is made

Each is as narrow as it can be; `types` holds only inside its `with`. Ours.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import torch
from megatron.core.optimizer import optimizer as optimizers
from megatron.core.pipeline_parallel import schedules
from megatron.core.transformer.moe.token_dispatcher import MoEAlltoAllTokenDispatcher
from torch import Tensor

log = logging.getLogger(__name__)
CPU = torch.device("cpu")
MISSING = object()


class Patches:
    """Attributes that were replaced, and how to put them back."""

    def __init__(self) -> None:
        self.replaced: list[tuple[Any, str, Any]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        self.replaced.append((owner, name, vars(owner).get(name, MISSING)))
        setattr(owner, name, value)

    def undo(self) -> None:
        while self.replaced:
            owner, name, value = self.replaced.pop()
            if value is MISSING:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


class TorchWithoutCuda(ModuleType):
    """What a module of megatron-core gets for `torch`: the same, but tensors made on "cuda" are made on the CPU."""

    def __init__(self) -> None:
        super().__init__("torch")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)

    def zeros(self, size: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.zeros(size, dtype=dtype, device=here(device))

    def tensor(self, data: Any, *, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        return torch.tensor(data, dtype=dtype, device=here(device))


def here(device: Any) -> Any:
    """The device, but the CPU for "cuda"."""
    return CPU if device == "cuda" else device


def device(patches: Patches) -> None:
    patches.set(torch.cuda, "current_device", lambda: CPU)


def literals(patches: Patches) -> None:
    for module in (schedules, optimizers):
        patches.set(module, "torch", TorchWithoutCuda())


def splits(patches: Patches) -> None:
    def numbers(dispatcher: Any, point: str, tokens_per_expert: Tensor | None = None) -> Tensor | None:
        for name in ("input_splits", "output_splits", "output_splits_tp"):
            value = getattr(dispatcher, name)
            if isinstance(value, Tensor):
                setattr(dispatcher, name, np.asarray(value))
        return tokens_per_expert

    patches.set(MoEAlltoAllTokenDispatcher, "cuda_dtoh_stream", "none: nothing is copied")
    patches.set(MoEAlltoAllTokenDispatcher, "_maybe_dtoh_and_synchronize", numbers)


TIERS = (device, literals, splits)


@cache
def install() -> Patches:
    """Once per process; says so in the log. With CUDA it patches nothing. `uninstall` puts everything back."""
    patches = Patches()
    if not torch.cuda.is_available():
        for tier in TIERS:
            tier(patches)
        log.warning("no CUDA here: megatron-core runs on the CPU with the patches %s", ", ".join(tier.__name__ for tier in TIERS))
    return patches


def uninstall() -> None:
    install().undo()
    install.cache_clear()


@contextlib.contextmanager
def types() -> Iterator[None]:
    """Inside, tensors say that they are on a GPU: megatron-core's optimizers sort parameters by that string."""
    patches, plain = Patches(), Tensor.type

    def gpu_type(tensor: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
        if dtype is not None:
            return plain(tensor, dtype, non_blocking)
        return plain(tensor).replace("torch.", "torch.cuda.", 1) if tensor.device == CPU else plain(tensor)

    if not torch.cuda.is_available():
        patches.set(Tensor, "type", gpu_type)
    try:
        yield
    finally:
        patches.undo()
