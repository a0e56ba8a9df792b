"""From a plan and a whole model to a Megatron engine: groups, layers swapped by name, gradient buffers, optimizer, state."""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from ernie5.model.attention import Attention
from ernie5.model.moe import MixtureOfExperts
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.megatron import compat
from ernie5.parallel.megatron.attention import SplitAttention
from ernie5.parallel.megatron.chunk import WholeChunk
from ernie5.parallel.megatron.engine import MegatronEngine
from ernie5.parallel.megatron.groups import Groups
from ernie5.parallel.megatron.held import Held
from ernie5.parallel.megatron.linear import swap_linears
from ernie5.parallel.megatron.moe import SplitMixture
from ernie5.parallel.megatron.place import Place
from ernie5.parallel.megatron.sequence import swap_layers
from ernie5.parallel.megatron.settings import check_sizes, transformer_config
from ernie5.parallel.megatron.shared_optimizer import pieces, share
from ernie5.parallel.megatron.state import MegatronState
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.world import World

USED_IN_PART = re.compile(r".*\battention\.(query|key)_norm\.weight|.*\bmoe\.(router|shared)\..*")  # by heads, by positions
USED_IN_PART_BY_POSITIONS = re.compile(r"(layers\.\d+|multi_token\.layer)\.(attention|moe)_norm\.weight")


def split(model: UnifiedTransformer, plan: ParallelPlan, config: TransformerConfig, groups: Groups) -> None:
    """Exchange the parts of a whole model for this process's, in place; the same names, and each keeps its initial weights."""
    if groups.tensor.size > 1:
        swap_linears(model, config, groups.tensor)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, Attention) and groups.tensor.size > 1:
                setattr(module, name, SplitAttention(child, groups.tensor, plan.sequence))
            elif isinstance(child, MixtureOfExperts):
                setattr(module, name, SplitMixture(child, config, groups))
    if plan.sequence:
        swap_layers(model, groups.tensor)
    for name, parameter in model.named_parameters():
        partial = USED_IN_PART.fullmatch(name) or (plan.sequence and USED_IN_PART_BY_POSITIONS.fullmatch(name))
        parameter.sequence_parallel = bool(partial) and groups.tensor.size > 1  # type: ignore[attr-defined]  # Megatron's word for it


def build(
    plan: ParallelPlan, model: UnifiedTransformer, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], world: World,
    largest_norm: float, bf16: bool,
) -> MegatronEngine:
    """Collective. `model` is whole, with the same weights on every rank, and is taken apart."""
    compat.install()
    check_sizes(plan, model.config, model.vocabulary.text)
    groups = Groups.form(plan, world)
    names = frozenset(tensors_of(model))
    config = transformer_config(plan, model.config)
    split(model, plan, config, groups)
    whole = [WholeChunk(model)]
    settings = DistributedDataParallelConfig(use_distributed_optimizer=plan.zero == 1, grad_reduce_in_fp32=True)
    chunks = [DistributedDataParallel(config, settings, chunk, disable_bucketing=number > 0) for number, chunk in enumerate(whole)]
    tensors = {chunk.whole_name(name): tensor for chunk in whole for name, tensor in tensors_of(chunk).items()}
    places = {name: Place.of(name, tuple(tensor.shape), groups) for name, tensor in tensors.items()}
    optimizer = make_optimizer(nn.ModuleList(whole))
    steppers = share(optimizer, chunks) if plan.zero == 1 else [optimizer]
    held = []
    if plan.zero == 1:
        name_of = {id(tensor): name for name, tensor in tensors.items()}
        for shared in steppers:
            for name, _, start, stop, piece in pieces(shared, lambda parameter: name_of[id(parameter)]):
                held.append(Held(name, places[name], start, stop, piece, shared.optimizer, places[name].counts))
    else:
        for name, tensor in tensors.items():
            if isinstance(tensor, nn.Parameter) and tensor.requires_grad:
                held.append(Held(name, places[name], 0, tensor.numel(), tensor, optimizer, places[name].hands_out))
    state = MegatronState({name: (tensor, places[name]) for name, tensor in tensors.items()}, whole, held, names)
    return MegatronEngine(model, chunks, steppers, held, state, groups, world, model.config.num_layers, largest_norm, bf16)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, themselves and not copies; Megatron's layers have an empty `_extra_state` besides."""
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
