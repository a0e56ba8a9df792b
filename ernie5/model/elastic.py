"""Sub-models: the same weights, fewer layers, fewer experts or a smaller top-k.

A `SubModel` is a value handed to `forward`; `FULL` is the whole model and equals passing nothing (a test holds it).
Report: §3.3 (depth, width and sparsity elasticity). Ours: decisions 17-19 (which layers may go, how experts are kept).
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SubModel:
    """None means all: `keep_layers` indices of executed layers, `experts` indices of live experts, `top_k` experts per token."""

    keep_layers: tuple[int, ...] | None = None
    experts: tuple[int, ...] | None = None
    top_k: int | None = None

    def keeps(self, layer: int) -> bool:
        return self.keep_layers is None or layer in self.keep_layers

    def check(self, num_layers: int, num_experts: int, top_k: int, num_codebooks: int) -> None:
        """The first layer and the top `num_codebooks` layers always stay: they carry the inputs and the audio codes."""
        always = {0, *range(max(0, num_layers - num_codebooks), num_layers)}
        if self.keep_layers is not None and not always <= set(self.keep_layers) <= set(range(num_layers)):
            raise ValueError(f"SubModel.keep_layers = {self.keep_layers} must contain {sorted(always)} and stay below {num_layers}")
        if self.experts is not None and not (self.experts and set(self.experts) <= set(range(num_experts))):
            raise ValueError(f"SubModel.experts = {self.experts} must name at least one of the experts 0..{num_experts - 1}")
        live = num_experts if self.experts is None else len(set(self.experts))
        wanted = top_k if self.top_k is None else self.top_k
        if not 1 <= wanted <= min(top_k, live):
            raise ValueError(f"SubModel.top_k = {wanted} must lie between 1 and {min(top_k, live)} (model.top_k and live experts)")


FULL = SubModel()
