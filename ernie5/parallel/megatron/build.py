"""From a plan and a whole model to a Megatron engine: groups, layers swapped by name, gradient buffers, optimizer, state."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from megatron.core.distributed import DistributedDataParallel, DistributedDataParallelConfig
from megatron.core.optimizer import DistributedOptimizer
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from ernie5.model.attention import Attention
from ernie5.model.moe import MixtureOfExperts
from ernie5.model.stage import keep, stage
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.levers import apply_levers
from ernie5.parallel.megatron import compat
from ernie5.parallel.megatron.attention import SplitAttention
from ernie5.parallel.megatron.chunk import Chunk
from ernie5.parallel.megatron.engine import MegatronEngine
from ernie5.parallel.megatron.groups import Groups
from ernie5.parallel.megatron.held import Held
from ernie5.parallel.megatron.linear import swap_linears
from ernie5.parallel.megatron.moe import SplitMixture
from ernie5.parallel.megatron.place import TEXT_TABLE, Place
from ernie5.parallel.megatron.sequence import swap_layers
from ernie5.parallel.megatron.settings import check_sizes, transformer_config
from ernie5.parallel.megatron.shared_optimizer import pieces, share
from ernie5.parallel.megatron.state import MegatronState
from ernie5.parallel.plan import ParallelPlan
from ernie5.parallel.stages import of_rank, stages_of
from ernie5.parallel.world import World

USED_IN_PART = re.compile(r".*\battention\.(query|key)_norm\.weight|.*\bmoe\.(router|shared)\..*")  # by heads, by positions
USED_IN_PART_BY_POSITIONS = re.compile(r"(layers\.\d+|multi_token\.layer)\.(attention|moe)_norm\.weight")


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, nobody is told which accelerator libraries megatron-core would like to have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


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
        both_ends = name == TEXT_TABLE and model.config.multi_token and plan.pipeline > 1
        parameter.shared_embedding = both_ends  # type: ignore[attr-defined]  # Megatron's word: gets a bucket of its own


@quiet()
def build(
    plan: ParallelPlan, model: UnifiedTransformer, make_optimizer: Callable[[nn.Module], torch.optim.Optimizer], world: World,
    largest_norm: float, bf16: bool,
) -> MegatronEngine:
    """Collective. `model` is whole, with the same weights on every rank, and is taken apart."""
    compat.install()
    check_sizes(plan, model.config)
    stages = stages_of(plan, model.config, model.vocabulary)
    groups = Groups.form(plan, world)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors_of(model).items()}
    config = transformer_config(plan, model.config)
    mine = of_rank(stages, plan, groups.pipeline.rank)
    keep(model, [layer for layers in mine for layer in layers])
    split(model, plan, config, groups)
    apply_levers(model, plan.memory)
    parts = [Chunk(stage(model, layers) if len(mine) > 1 else model, groups, plan.sequence) for layers in mine]
    buffers = DistributedDataParallelConfig(use_distributed_optimizer=plan.zero == 1, grad_reduce_in_fp32=True)
    chunks = [DistributedDataParallel(config, buffers, part, disable_bucketing=number > 0) for number, part in enumerate(parts)]
    tensors = {part.whole_name(name): tensor for part in parts for name, tensor in tensors_of(part).items()}
    places = {name: Place.of(name, shapes[name], groups) for name in tensors}
    optimizer = make_optimizer(nn.ModuleList(parts))
    steppers = share(optimizer, chunks) if plan.zero == 1 else [optimizer]
    held = [h for stepper in steppers for h in held_by(stepper, tensors, places)]
    state = MegatronState({name: (tensor, places[name]) for name, tensor in tensors.items()}, parts, held, frozenset(shapes))
    return MegatronEngine(model, chunks, steppers, held, state, groups, world, model.config.num_layers, largest_norm, bf16)


def held_by(stepper: torch.optim.Optimizer | DistributedOptimizer, tensors: dict[str, Tensor], places: dict[str, Place]) -> Iterator[Held]:
    """What it steps. Pieces of a shared optimizer are on one data rank alone; whole parameters are on all of them."""
    names = {id(tensor): name for name, tensor in tensors.items()}
    if isinstance(stepper, DistributedOptimizer):
        for parameter, start, stop, piece in pieces(stepper):
            name = names[id(parameter)]
            yield Held(name, places[name], start, stop, piece, stepper.optimizer, places[name].counts)
        return
    for parameter in (p for group in stepper.param_groups for p in group["params"]):
        name = names[id(parameter)]
        yield Held(name, places[name], 0, parameter.numel(), parameter, stepper, places[name].hands_out)


def tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers, themselves and not copies; Megatron's layers have an empty `_extra_state` besides."""
    return {name: tensor for name, tensor in module.state_dict(keep_vars=True).items() if isinstance(tensor, Tensor)}
