"""ZeRO 1 by Megatron's DistributedOptimizer: data ranks share gradients' sums, moments and the step, and gather the new weights.

One for dense parameters, over data (and context) ranks, and one for experts, over the ranks that hold the same ones. Inside works the
optimizer that the recipe names, over flat pieces of the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from megatron.core.distributed import DistributedDataParallel
from megatron.core.optimizer import DistributedOptimizer, OptimizerConfig
from torch import Tensor, nn

from ernie5.parallel.megatron import compat


def share(optimizer: torch.optim.Optimizer, chunks: Sequence[DistributedDataParallel]) -> list[DistributedOptimizer]:
    """`optimizer` over the parameters of all chunks, which must be AdamW."""
    if not isinstance(optimizer, torch.optim.AdamW):
        raise ValueError(f"parallel.zero = 1 of the megatron engine shares the state of AdamW, not of {type(optimizer).__name__}; "
                         "use parallel.zero = 0")
    shared = []
    for dense in (True, False):
        groups = [{**group, "params": [p for p in group["params"] if is_dense(p) == dense]} for group in optimizer.param_groups]
        buffers = {number: chunk.buffers if dense else chunk.expert_parallel_buffers for number, chunk in enumerate(chunks)}
        replicas = chunks[0].intra_dp_cp_group if dense else chunks[0].intra_expt_dp_group
        inside = torch.optim.AdamW([group for group in groups if group["params"]])
        with compat.types():
            shared.append(DistributedOptimizer(
                inside, OptimizerConfig(use_distributed_optimizer=True), None, None, list(chunks), buffers, replicas, None, 0, 0))
    return shared


def is_dense(parameter: nn.Parameter) -> bool:
    """Megatron's mark: dense parameters are added up over data ranks, experts over the ranks that hold the same ones."""
    return getattr(parameter, "allreduce", True)


def pieces(shared: DistributedOptimizer) -> Iterator[tuple[nn.Parameter, int, int, Tensor]]:
    """(local parameter, start, stop, the flat piece that is stepped) of everything that falls to this process."""
    for parameters, steps in zip(shared.model_fp32_groups, shared.shard_fp32_groups, strict=True):
        for parameter, piece in zip(parameters, steps, strict=True):
            ours = shared._get_model_param_range_map(parameter)["param"]
            yield parameter, ours.start, ours.end, piece
