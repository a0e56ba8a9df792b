"""How data ranks of the torch engine share a model: DistributedDataParallel (whole on every rank) or FSDP2 (weights in slices).

    DDP    zero 0: gradients are averaged while the backward pass runs
    FSDP2  zero 2 or 3: weights, gradients and moments in slices; 3 drops the gathered weights of a layer after its forward pass

Both average over ranks where the loss contract wants a sum, so losses go in multiplied by their number; weights of split experts have seen
the rows of a whole group and are averaged over all ranks too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.engine import LossFunction, MicroBatch
from ernie5.parallel.expert_parallel import ExpertGroups
from ernie5.parallel.world import World


class LossOfModel(nn.Module):
    """The model and its loss in one `forward`, so that from the loss can be seen which parameters took part."""

    def __init__(self, model: UnifiedTransformer) -> None:
        super().__init__()
        self.model = model

    def forward(self, loss_function: LossFunction, micro_batch: MicroBatch) -> tuple[Tensor, Tensor]:
        """The loss to differentiate, and (total, text, multi_token, vision, audio) to report."""
        losses = loss_function(self.model, micro_batch)
        return losses.total, losses.detached()


def replicated(model: UnifiedTransformer, world: World, experts: Collection[str], elastic: bool) -> nn.Module:
    """Under DDP, but for split experts, which `finish_experts` takes care of."""
    runner = LossOfModel(model)
    DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(runner, [f"model.{name}" for name in experts])
    ids = [world.device.index] if world.device.type == "cuda" else None
    return DistributedDataParallel(
        runner, device_ids=ids, broadcast_buffers=False, gradient_as_bucket_view=True, find_unused_parameters=elastic)


def finish_experts(experts: list[nn.Parameter], groups: ExpertGroups, world: World) -> None:
    """After the last backward pass of a step: split experts' gradients as a mean over all ranks. FSDP has averaged those of the ranks that
    hold the same; DDP has left them alone.
    """
    for parameter in experts:
        if isinstance(parameter.grad, DTensor):
            parameter.grad.div_(groups.degree)
        elif parameter.grad is not None:  # all ranks ran the same layers
            parameter.grad.div_(world.size)
            if groups.num_same > 1:
                dist.all_reduce(parameter.grad, group=groups.same)


def fully_sharded(model: UnifiedTransformer, world: World, groups: ExpertGroups | None, zero: int) -> nn.Module:
    """Every layer is a unit, the rest is one more; split experts are sliced among the ranks that hold the same ones."""
    mesh = DeviceMesh(world.device.type, torch.arange(world.size))
    layers = [*model.layers, *([model.multi_token.layer] if model.multi_token is not None else [])]
    for layer in layers:
        if groups is not None:
            same = DeviceMesh.from_group(groups.same, world.device.type)
            fully_shard(layer.moe.experts, mesh=same, reshard_after_forward=zero == 3)
        fully_shard(layer, mesh=mesh, reshard_after_forward=zero == 3)
    runner = LossOfModel(model)
    fully_shard(runner, mesh=mesh, reshard_after_forward=False)  # in place: it gets FSDPModule among its classes
    return runner


@contextlib.contextmanager
def accumulating(runner: nn.Module, last: bool) -> Iterator[None]:
    """Inside, backward passes exchange gradients only when this is the last micro-batch of a step."""
    match runner:
        case DistributedDataParallel() if not last:
            with runner.no_sync():
                yield
        case FSDPModule():
            runner.set_requires_gradient_sync(last)
            yield
        case _:
            yield
