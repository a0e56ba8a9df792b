"""An optimizer whose moments are in host memory and which steps there; weights and gradients stay on their device.

    step:  weights and gradients -> host,   the optimizer's own step on the CPU,   weights -> device

One truth: the weights on the device. Their copies on the host (pinned where there is CUDA) are filled anew in every step, so that loading
and rows that are put back need no word to us. Sliced weights (FSDP2) are stepped as the slice that this process holds: the optimizer must
work element by element, as AdamW does.
Report: §5.1 (offload). Ours. Why not FSDP2's CPUOffloadPolicy: it moves the weights too, and only exists with FSDP2.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ernie5.parallel.parts import local


class OnHost(dict[str, Any]):
    """The moments of one parameter; whatever is put in is moved to the host."""

    def __setitem__(self, slot: str, value: Any) -> None:
        super().__setitem__(slot, local(value).cpu() if isinstance(value, Tensor) else value)


class HostOptimizer(torch.optim.Optimizer):
    """Groups and state speak of the parameters on the device; `inner` is a fresh optimizer of them and is taken over."""

    def __init__(self, inner: torch.optim.Optimizer) -> None:
        super().__init__([dict(group) for group in inner.param_groups], inner.defaults)
        self.state = defaultdict(OnHost)
        self.inner = inner
        for group in inner.param_groups:
            group["params"] = [nn.Parameter(_host_like(parameter)) for parameter in group["params"]]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "nobody here takes a loss twice"
        pairs: list[tuple[Tensor, Tensor]] = []
        for ours, theirs in zip(self.param_groups, self.inner.param_groups, strict=True):
            theirs["lr"] = ours["lr"]
            for parameter, host in zip(ours["params"], theirs["params"], strict=True):
                if parameter.grad is None:
                    host.grad = None
                    continue
                if host.grad is None:
                    host.grad = _host_like(parameter)
                host.copy_(local(parameter), non_blocking=True)
                host.grad.copy_(local(parameter.grad), non_blocking=True)
                self.inner.state[host] = self.state[parameter]
                pairs.append((local(parameter), host))
        if torch.cuda.is_available():
            torch.cuda.current_stream().synchronize()  # the copies have arrived
        self.inner.step()
        for mine, host in pairs:
            mine.copy_(host, non_blocking=True)


def _host_like(parameter: Tensor) -> Tensor:
    mine = local(parameter)
    return torch.empty(mine.shape, dtype=mine.dtype, pin_memory=mine.is_cuda)
