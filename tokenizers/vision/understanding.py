"""The understanding encoder: pictures and clip chunks -> tokens for the backbone, from two paths before any quantization.

    pixels   -> small ViT over the patches of each frame        (semantic path, trained with the backbone)
    features -> linear                                          (perceptual path: the generation tokenizer's CNN, frozen)
    2 x 2 patches of 1 frame (K = 4) or of 4 frames (K = 16), both paths -> patch merger -> one token

Positions of the ViT are fixed sines of (y, x) in patches: valid for any size. Odd grids repeat their last row or column.
Report: §2.2.2. Ours: ViT size and positions.
Letters: n media, f frames (1 or `chunk`), h w pixels, h' w' patches, m = (h'/2)(w'/2) tokens in row-major order, K patches a token.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.vision.mlp_merger import MlpMerger
from ernie5.tokenizers.vision.patch_merger import PatchMerger

MERGE = 2  # patches a side of one token


@dataclass(frozen=True)
class UnderstandingConfig:
    """Sizes of the ViT and the merger; `patch` is the stride of the generation tokenizer."""

    patch: int = 8
    chunk: int = 4       # frames of a clip merged into one set of tokens
    dim: int = 64
    num_layers: int = 2
    num_heads: int = 4
    merger: Literal["attention", "mlp"] = "attention"   # mlp: the patches of a token side by side

    def __post_init__(self) -> None:
        if self.dim % 4 or self.dim % self.num_heads:
            raise ValueError(
                f"understanding.dim = {self.dim} must be a multiple of 4 and of num_heads = {self.num_heads}; use for example 64 and 4"
            )


def positions_2d(height: int, width: int, dim: int) -> Tensor:
    """Sines and cosines of row and column: float32 `(h w) dim`; wave lengths from 2 pi to about 600 patches."""
    frequency = 100.0 ** -(torch.arange(dim // 4) / (dim // 4))                            # dim/4
    rows = torch.arange(height)[:, None] * frequency                                       # h dim/4
    columns = torch.arange(width)[:, None] * frequency                                     # w dim/4
    rows, columns = (torch.cat([angle.sin(), angle.cos()], -1) for angle in (rows, columns))
    grid = torch.cat([rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)], -1)
    return rearrange(grid, "h w c -> (h w) c")


class VitLayer(nn.Module):
    """Pre-norm attention over the patches of one frame and a two-layer network, `n s C` -> same."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm, self.network_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.mix = nn.Linear(dim, dim, bias=False)
        self.network = nn.Sequential(nn.Linear(dim, 4 * dim, bias=False), nn.GELU(), nn.Linear(4 * dim, dim, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = rearrange(self.qkv(self.attention_norm(x)), "n s (three h c) -> three n h s c", three=3, h=self.num_heads)
        x = x + self.mix(rearrange(F.scaled_dot_product_attention(q, k, v), "n h s c -> n s (h c)"))
        return x + self.network(self.network_norm(x))


class UnderstandingEncoder(nn.Module):
    """`feature_dim`: channels of the generation tokenizer's features; `out_dim`: width of the backbone."""

    def __init__(self, config: UnderstandingConfig, feature_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config, self.feature_dim = config, feature_dim
        self.embed = nn.Linear(3 * config.patch**2, config.dim, bias=False)
        self.layers = nn.ModuleList(VitLayer(config.dim, config.num_heads) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.project = nn.Linear(feature_dim, config.dim, bias=False)
        num_slots = config.chunk * MERGE**2
        self.merger: PatchMerger | MlpMerger
        match config.merger:
            case "attention":
                self.merger = PatchMerger(config.dim, out_dim, config.num_heads, num_slots)
            case "mlp":
                self.merger = MlpMerger(config.dim, out_dim, num_slots)

    def forward(self, pixels: Tensor, features: Tensor) -> Tensor:
        """pixels uint8 `n f 3 h w` and features `n f c h' w'` of the same frames, f = 1 or `chunk` -> tokens `n m D_out`.

        n may be 0: every weight then gets a gradient of zeros, so that no rank waits for another.
        """
        self._check(pixels, features)
        h, w = features.shape[-2:]
        p = self.config.patch
        patches = rearrange(pixels.to(self.embed.weight.dtype) / 127.5 - 1, "n f c (h a) (w b) -> (n f) (h w) (c a b)", a=p, b=p)
        x = self.embed(patches) + positions_2d(h, w, self.config.dim).to(self.embed.weight)
        for layer in self.layers:
            x = layer(x)
        vit = rearrange(self.norm(x), "(n f) (h w) c -> n f h w c", f=pixels.shape[1], h=h)
        cnn = self.project(rearrange(features.to(self.project.weight.dtype), "n f c h w -> n f h w c"))
        return self.merger(groups(cnn), groups(vit))

    def _check(self, pixels: Tensor, features: Tensor) -> None:
        frames, p = pixels.shape[1], self.config.patch
        if frames not in (1, self.config.chunk):
            raise ValueError(f"pixels have {frames} frames, which must be 1 (image) or {self.config.chunk} (chunk); cut or pad the clip")
        expected = (len(pixels), frames, self.feature_dim, pixels.shape[3] // p, pixels.shape[4] // p)
        if tuple(features.shape) != expected or pixels.shape[3] % p or pixels.shape[4] % p:
            raise ValueError(
                f"features {tuple(features.shape)} do not fit pixels {tuple(pixels.shape)} with patches of {p}; "
                "take both from one medium and the generation tokenizer that this encoder was built for"
            )


def groups(x: Tensor) -> Tensor:
    """Patches `n f h w c` -> the f * 4 patches of each 2 x 2 square `n m (f 2 2) c`; the last row or column is repeated if odd."""
    h, w = x.shape[2:4]
    if h % MERGE:
        x = torch.cat([x, x[:, :, -1:]], 2)
    if w % MERGE:
        x = torch.cat([x, x[:, :, :, -1:]], 3)
    return rearrange(x, "n f (h a) (w b) c -> n (h w) (f a b) c", a=MERGE, b=MERGE)
