"""The stand-alone small model inside a big one: its layers, its experts and nothing else.

    layers.7.moe.experts.up[E]  ->  layers.5.moe.experts.up[live]     (two layers before it are gone, rows of other experts too)

Works on names, so weights, moments and router counts of a checkpoint are cut alike. Equal to the masked big model (a test holds it).
Report: §3.3, §6.4.2 (a sub-model is taken from the trained one and goes on by itself). Letters: L layers, R kinds, E experts.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ernie5.model.config import ModelConfig
from ernie5.model.elastic import SubModel, has_row_per_expert
from ernie5.model.unified_transformer import UnifiedTransformer

LAYER = re.compile(r"(?P<before>(?:model\.|optimizer\.\w+\.)?)layers\.(?P<layer>\d+)\.(?P<rest>.+)")
MULTI_TOKEN = re.compile(r"(?:model\.|optimizer\.\w+\.)?multi_token\.layer\.(?P<rest>.+)")


def cut_config(config: ModelConfig, submodel: SubModel) -> ModelConfig:
    """The sizes of the small model."""
    layers, experts, top_k = submodel.size(config)
    return replace(config, num_layers=layers, num_experts=experts, top_k=top_k)


def extract(model: UnifiedTransformer, submodel: SubModel) -> UnifiedTransformer:
    """A new model with copies of the sub-model's weights, on the same device. ValueError when `model` does not hold it."""
    submodel.check(model.config, model.vocabulary.num_codebooks)
    understanding = copy.deepcopy(model.embeddings.understanding)
    small = UnifiedTransformer(cut_config(model.config, submodel), model.vocabulary, understanding)
    small.load_state_dict(cut_tensors(model.state_dict(), submodel, model.config))
    return small.to(next(model.parameters()).device).train(model.training)


def cut_tensors(tensors: Mapping[str, Tensor], submodel: SubModel, config: ModelConfig) -> dict[str, Tensor]:
    """The tensors of the small model under its names. Takes names of a model, or of a checkpoint (`model.…`, `optimizer.<slot>.…`,
    `router_load: L R E`), of the full model of `config`.
    """
    kept = range(config.num_layers) if submodel.keep_layers is None else sorted(submodel.keep_layers)
    place = {layer: number for number, layer in enumerate(kept)}
    found: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if match := LAYER.fullmatch(name):
            layer = int(match["layer"])
            if layer in place:
                found[f"{match['before']}layers.{place[layer]}.{match['rest']}"] = _rows(tensor, match["rest"], submodel, layer, config)
        elif match := MULTI_TOKEN.fullmatch(name):
            found[name] = _rows(tensor, match["rest"], submodel, config.num_layers, config)
        elif name == "router_load":
            layers = [*kept, *range(config.num_layers, len(tensor))]
            found[name] = torch.stack([tensor[i][:, _live(submodel, i, config)] for i in layers])
        else:
            found[name] = tensor
    return found


def _rows(tensor: Tensor, part: str, submodel: SubModel, layer: int, config: ModelConfig) -> Tensor:
    """Of tensors with a row per expert, those of the live experts."""
    return tensor[_live(submodel, layer, config)] if has_row_per_expert(part, tuple(tensor.shape), config.num_experts) else tensor


def _live(submodel: SubModel, layer: int, config: ModelConfig) -> list[int]:
    return list(range(config.num_experts)) if submodel.experts is None else list(submodel.experts[layer])
