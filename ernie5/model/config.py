"""Sizes of the backbone.

Report: none of these numbers is given except the ablation model (16 layers, 64 experts, top-8). Ours: the defaults are `tiny_cpu`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ModelConfig:
    """The unified transformer. `expert_dim` is the SwiGLU width of one expert; widths must be multiples of 8."""

    dim: int = 128
    num_layers: int = 6
    num_heads: int = 4
    num_kv_heads: int = 4
    num_experts: int = 16
    top_k: int = 2
    expert_dim: int = 128
    num_shared_experts: int = 0
    routed_scale: float = 1.0
    rope_base: float = 1e6
    window_frames: int = 4              # a generated frame sees this many frames of its clip before it
    multi_token: bool = True            # one extra module that predicts the token after next
    max_scales: int = 12                # rows of the scale embedding
    attention: Literal["auto", "dense", "flex"] = "auto"   # auto: flex on GPU, dense mask + SDPA on CPU
    experts: Literal["grouped", "loop"] = "grouped"        # loop: the readable reference
    router: str = "ernie5.model.router:Router"             # or your own `module:Class`
    codec: Literal["depthwise", "parallel"] = "depthwise"  # parallel: all audio codes leave the last layer, without feedback

    @property
    def head_dim(self) -> int:
        return self.dim // self.num_heads

    @property
    def num_moe_layers(self) -> int:
        """Layers with experts: the backbone's and, last, that of the multi-token module."""
        return self.num_layers + self.multi_token

    def check(self) -> None:
        """Raise ValueError with key, value, rule and way out."""
        rules = [
            (self.dim % self.num_heads == 0 and self.head_dim % 2 == 0,
             f"model.dim = {self.dim} must be an even multiple of model.num_heads = {self.num_heads}"),
            (self.num_heads % self.num_kv_heads == 0,
             f"model.num_kv_heads = {self.num_kv_heads} must divide model.num_heads = {self.num_heads}"),
            (1 <= self.top_k <= self.num_experts,
             f"model.top_k = {self.top_k} must lie between 1 and model.num_experts = {self.num_experts}"),
            (self.dim % 8 == 0 and self.expert_dim % 8 == 0,
             f"model.dim = {self.dim} and model.expert_dim = {self.expert_dim} must be multiples of 8 (grouped products need that)"),
            (self.num_layers >= 1, f"model.num_layers = {self.num_layers} must be at least 1"),
        ]
        for holds, message in rules:
            if not holds:
                raise ValueError(message)


@dataclass(frozen=True)
class Vocabulary:
    """What the tokenizers fix: sizes of tables and heads."""

    text: int              # text ids, control tokens included
    bits: int              # d, bits of one vision token
    num_codebooks: int     # Q, audio codes of one frame
    codebook_size: int     # codes per audio level; one more class ends the sound
    feature_dim: int       # channels of the vision features read by the understanding encoder
    patch: int = 8         # pixels per cell of those features
    merge: int = 2         # cells merged per side by the patch merger
    speaker_dim: int = 0   # v, numbers of a speaker vector; 0 = there is no speaker slot
