"""Megatron's tensor-parallel layers in the place of ours, each with its part of the whole weight.

    column   y = x W_r^T           rows of W on rank r: some heads' queries, keys, values
    row      y = sum_r x_r W_r^T   columns of W: heads come together again; under sequence parallelism every rank gets its positions of y
    vocab    rows of a table or head over text ids

Report: §5.1. Ours: the sharding table says which layer is what. Letters: T positions, D width, m targets, V text ids.
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.distributed as dist
import torch.nn.functional as F
from megatron.core.tensor_parallel import (
    ColumnParallelLinear,
    RowParallelLinear,
    VocabParallelEmbedding,
    gather_from_tensor_model_parallel_region,
    linear_with_grad_accumulation_and_async_allreduce,
    vocab_parallel_cross_entropy,
)
from megatron.core.transformer.transformer_config import TransformerConfig
from torch import Tensor, nn

from ernie5.model.experts import compute_dtype
from ernie5.model.sharding import Split, split_dim, split_of
from ernie5.model.text_head import EXCLUDED, TextHead, restrict
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.parallel.megatron.groups import Axis


def part_of(weight: Tensor, axis: Axis, split: Split) -> nn.Parameter:
    """Our share of a whole weight, a copy on the same device; the last rank's is smaller where the size is no multiple (`share_of`)."""
    dim = split_dim(split)
    assert dim is not None
    share = axis.share_of(weight.shape[dim])
    ours = weight.detach().narrow(dim, share.start, len(share))
    return nn.Parameter(ours.clone(memory_format=torch.contiguous_format))


def keep_initial(weight: Tensor) -> Tensor:
    """Weights are cut from the whole model, so nothing is drawn."""
    return weight


class Product:
    """Megatron's product, with operands in the dtype of autocast: its own autograd function does not know of it on every device."""

    def _forward_impl(
        self, input: Tensor, weight: Tensor, bias: Tensor | None, gradient_accumulation_fusion: bool, allreduce_dgrad: bool,
        sequence_parallel: bool, tp_group: dist.ProcessGroup | None, grad_output_buffer: list[Tensor] | None = None,
        wgrad_deferral_limit: int | None = None,
    ) -> Tensor:
        dtype = compute_dtype(input)
        with torch.autocast(input.device.type, enabled=False):
            return linear_with_grad_accumulation_and_async_allreduce(
                input.to(dtype), weight.to(dtype), bias, gradient_accumulation_fusion, allreduce_dgrad, sequence_parallel,
                grad_output_buffer, wgrad_deferral_limit, tp_group=tp_group)


class Column(Product, ColumnParallelLinear):
    """x `… D` -> our outputs `… D'/tensor`. Whoever calls it has made x such that its gradient is added up over the tensor ranks."""

    def __init__(self, whole: nn.Linear, config: TransformerConfig, axis: Axis) -> None:
        super().__init__(whole.in_features, whole.out_features, config=replace(config, sequence_parallel=False), init_method=keep_initial,
                         bias=False, disable_grad_reduce=True, tp_group=axis.group)
        self.weight = part_of(whole.weight, axis, "column")

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[0]


class Row(Product, RowParallelLinear):
    """Our part of x `B S D/tensor` -> the sum over tensor ranks `B S D'`, or, under sequence parallelism, our positions of it `1 t D'`."""

    def __init__(self, whole: nn.Linear, config: TransformerConfig, axis: Axis) -> None:
        super().__init__(whole.in_features, whole.out_features, config=config, init_method=keep_initial, bias=False,
                         input_is_parallel=True, skip_bias_add=False, tp_group=axis.group)
        self.weight = part_of(whole.weight, axis, "row")

    def forward(self, x: Tensor) -> Tensor:
        if self.sequence_parallel:
            return super().forward(x.flatten(0, 1))[0].unsqueeze(0)
        return super().forward(x)[0]


class VocabTable(VocabParallelEmbedding):
    """ids `m` -> rows `m D` on every rank. Megatron wants equal shares: a last rank that has fewer rows is told that it has as many."""

    is_table = True  # for make_optimizer: not decayed

    def __init__(self, whole: nn.Embedding, config: TransformerConfig, axis: Axis) -> None:
        super().__init__(axis.rounded_up(whole.num_embeddings), whole.embedding_dim, init_method=keep_initial, config=config,
                         tp_group=axis.group)
        self.weight = part_of(whole.weight, axis, "vocab")


class VocabHead(Product, ColumnParallelLinear):
    """The text head over our part of the vocabulary; offers what `TextHead` does. Every rank gives the same hidden states and gets the
    same losses. Ids that a last rank lacks to an equal share can never be chosen.
    """

    def __init__(self, whole: TextHead, config: TransformerConfig, axis: Axis) -> None:
        self.num_ids = whole.out_features
        super().__init__(whole.in_features, axis.rounded_up(self.num_ids), config=replace(config, sequence_parallel=False),
                         init_method=keep_initial, bias=False, tp_group=axis.group)
        self.weight = part_of(whole.weight, axis, "vocab")
        self.first_id = axis.rank * self.output_size_per_partition

    def forward(self, hidden: Tensor) -> Tensor:
        """hidden `m D` -> all logits `m V`."""
        return gather_from_tensor_model_parallel_region(self.part(hidden), self.tp_group)[:, : self.num_ids]

    def part(self, hidden: Tensor) -> Tensor:
        """hidden `m D` -> logits of our ids `m V/tensor`."""
        logits = super().forward(hidden)[0]
        return F.pad(logits, (0, self.output_size_per_partition - logits.shape[1]), value=EXCLUDED)

    def nll(self, hidden: Tensor, target: Tensor, choice: Tensor | None = None) -> Tensor:
        """hidden `m D`, target `m`, choice `m` -> `m` nats, float32; no rank ever holds all logits."""
        logits = self.part(hidden).float()
        if choice is not None:
            logits = restrict(logits, choice, self.first_id)
        return vocab_parallel_cross_entropy(logits, target)


def swap_linears(model: UnifiedTransformer, config: TransformerConfig, axis: Axis) -> None:
    """By name, after the sharding table."""
    for name, module in list(model.named_modules()):
        match split_of(f"{name}.weight"), module:
            case "column", nn.Linear():
                part: nn.Module = Column(module, config, axis)
            case "row", nn.Linear():
                part = Row(module, config, axis)
            case "vocab", nn.Embedding():
                part = VocabTable(module, config, axis)
            case "vocab", TextHead():
                part = VocabHead(module, config, axis)
            case _:
                continue
        parent, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(parent), leaf, part)
