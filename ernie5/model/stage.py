"""A stage of a pipeline: the whole model's module with what other stages own replaced by `Elsewhere`, so every name stays.

    first    input embeddings
    each     some layers and, where they emit audio codes, the norms, heads and feedback tables of these levels
    last     final norm, text and vision heads, the multi-token module and, for it, a copy of the text table

Report: §5.1 (embeddings and heads stand at the ends of the pipeline). Ours: who owns the audio levels.
Letters: L layers, Q codebooks.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator
from typing import Any, TypeVar

from torch import nn

from ernie5.model.unified_transformer import UnifiedTransformer

AnyModule = TypeVar("AnyModule", bound=nn.Module)


class Elsewhere(nn.Module):
    """In the place of what another stage owns: no weights, and it cannot be run."""

    def forward(self, *_: Any) -> Any:
        raise RuntimeError("this part of the model is on another stage of the pipeline")

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            raise AttributeError(f"{name} belongs to a part of the model that is on another stage of the pipeline") from None


def keep(model: UnifiedTransformer, layers: Collection[int]) -> None:
    """Leave in `model` what stages of these layers own, in place: nobody who holds the model keeps the rest in memory."""
    wanted = set(owned(model, layers))
    for path in list(owned(model, range(len(model.layers)))):
        if path not in wanted:
            parent, _, leaf = path.rpartition(".")
            setattr(model.get_submodule(parent), leaf, Elsewhere())
    model.here = tuple(sorted(layers))


def stage(model: UnifiedTransformer, layers: range) -> UnifiedTransformer:
    """The stage of these layers; its parts are those of `model`, which stays as it is."""
    twin = _shell(model)
    for path in ("embeddings", "layers", "codec", "codec.tables", "heads", "heads.audio", "heads.audio_norms"):
        parent, _, leaf = path.rpartition(".")
        owner = twin.get_submodule(parent)
        setattr(owner, leaf, _shell(owner.get_submodule(leaf)))
    keep(twin, layers)
    return twin


def owned(model: UnifiedTransformer, layers: Collection[int]) -> Iterator[str]:
    """Paths of the modules that stages of these layers own."""
    first, last = 0 in layers, len(model.layers) - 1 in layers
    for name, _ in model.embeddings.named_children():
        if first or (last and name == "text" and model.multi_token is not None):
            yield f"embeddings.{name}"
    for layer in layers:
        yield f"layers.{layer}"
        for level in model.codec.levels(layer):
            yield from (f"heads.audio_norms.{level}", f"heads.audio.{level}")
            if level < len(model.codec.tables):
                yield f"codec.tables.{level}"
    if last:
        yield from ("norm", "heads.text", "heads.vision")
        if model.multi_token is not None:
            yield "multi_token"


def _shell(module: AnyModule) -> AnyModule:
    """The same children under a module of its own, which can lose some."""
    twin = copy.copy(module)
    twin._modules = dict(module._modules)
    return twin
