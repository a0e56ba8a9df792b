"""The understanding encoder: pictures and clip chunks of any size -> tokens for the backbone, from two paths before any quantization.

    pixels   -> ViT over the patches of each frame              (semantic path, trained with the backbone)
    features -> linear                                          (perceptual path: the generation tokenizer's CNN, frozen)
    2 x 2 patches of 1 frame (K = 4) or of 4 frames (K = 16), both paths -> patch merger -> one token

All reads of a batch lie side by side in one pack of patches (NaViT); only attention knows frames. Every layer runs once a batch, whatever
is in it, so that ranks run them equally often. Odd grids repeat their last row or column.
Report: §2.2.2. Ours: ViT size, positions, packing. Sizes that are usual: base 768 x 12 layers x 12 heads, large 1024 x 24 x 16.
Letters: P patches, M tokens, n reads, f frames (1 or `chunk`), h w patches of a frame, m = (h/2)(w/2) tokens, K patches a token, p pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from einops import rearrange
from torch import Tensor, nn

from ernie5.sequence import ReadSize, UnderstandBatch
from ernie5.tokenizers.vision.frame_attention import FrameAttention, FrameBuckets
from ernie5.tokenizers.vision.mlp_merger import MlpMerger
from ernie5.tokenizers.vision.patch_merger import PatchMerger
from ernie5.tokenizers.vision.patch_positions import Rope, Sines

MERGE = 2  # patches a side of one token


@dataclass(frozen=True)
class UnderstandingConfig:
    """Sizes of the ViT and the merger; `patch` is the stride of the generation tokenizer. `pack`: reads of all sizes go through the encoder
    together, for pictures at their own sizes; else all of one size at a time. Both give the same tokens.
    """

    patch: int = 8
    chunk: int = 4       # frames of a clip merged into one set of tokens
    dim: int = 64
    num_layers: int = 2
    num_heads: int = 4
    mlp_ratio: int = 4   # width of a layer's network, in dims
    positions: Literal["sines", "rope"] = "sines"
    merger: Literal["attention", "mlp"] = "attention"   # mlp: the patches of a token side by side
    pack: bool = False

    @property
    def unit(self) -> int:
        """Pixels a side of one token."""
        return MERGE * self.patch

    def __post_init__(self) -> None:
        if self.dim % 4 or self.dim % self.num_heads:
            raise ValueError(
                f"understanding.dim = {self.dim} must be a multiple of 4 and of num_heads = {self.num_heads}; use for example 64 and 4"
            )
        if self.positions == "rope" and self.dim // self.num_heads % 4:
            raise ValueError(f"understanding.positions = rope turns pairs by row and by column, so dim / num_heads = "
                             f"{self.dim // self.num_heads} must be a multiple of 4; use other num_heads, or sines")


class VitLayer(nn.Module):
    """Pre-norm attention over the patches of each frame and a two-layer network, `P C` -> same."""

    def __init__(self, config: UnderstandingConfig) -> None:
        super().__init__()
        dim, inner = config.dim, config.mlp_ratio * config.dim
        self.num_heads = config.num_heads
        self.attention_norm, self.network_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.mix = nn.Linear(dim, dim, bias=False)
        self.network = nn.Sequential(nn.Linear(dim, inner, bias=False), nn.GELU(), nn.Linear(inner, dim, bias=False))

    def forward(self, x: Tensor, positions: Sines | Rope, pack: Pack) -> Tensor:
        q, k, v = rearrange(self.qkv(self.attention_norm(x)), "p (three h c) -> three p h c", three=3, h=self.num_heads)
        q, k = positions.turned(q, k, pack.places)
        x = x + self.mix(pack.frames.attend(q, k, v).flatten(1))
        return x + self.network(self.network_norm(x))


class UnderstandingEncoder(nn.Module):
    """`feature_dim`: channels of the generation tokenizer's features; `out_dim`: width of the backbone."""

    def __init__(self, config: UnderstandingConfig, feature_dim: int, out_dim: int) -> None:
        super().__init__()
        self.config, self.feature_dim = config, feature_dim
        self.embed = nn.Linear(3 * config.patch**2, config.dim, bias=False)
        self.layers = nn.ModuleList(VitLayer(config) for _ in range(config.num_layers))
        self.norm = nn.LayerNorm(config.dim)
        self.project = nn.Linear(feature_dim, config.dim, bias=False)
        self.positions: Sines | Rope
        match config.positions:
            case "sines":
                self.positions = Sines(config.dim)
            case "rope":
                self.positions = Rope(config.dim // config.num_heads)
        num_slots = config.chunk * MERGE**2
        self.merger: PatchMerger | MlpMerger
        match config.merger:
            case "attention":
                self.merger = PatchMerger(config.dim, out_dim, config.num_heads, num_slots)
            case "mlp":
                self.merger = MlpMerger(config.dim, out_dim, num_slots)

    def forward(self, batch: UnderstandBatch) -> Tensor:
        """Reads -> tokens `M D_out`, read after read, row by row.

        There may be no reads: every weight then gets a gradient of zeros, so that no rank waits for another.
        """
        self._check(batch)
        pack = Pack.of(batch.sizes, self.config.chunk, batch.patches.device)
        x = self.embed(batch.patches.flatten(1).to(self.embed.weight.dtype) / 127.5 - 1)                   # P C
        x = self.positions.added(x, pack.places)
        for layer in self.layers:
            x = layer(x, self.positions, pack)
        vit, cnn = self.norm(x), self.project(batch.features.to(self.project.weight.dtype))
        tokens = [self.merger(cnn[squares], vit[squares]) for squares in pack.squares]                     # of images, of chunks
        return torch.cat(tokens).index_select(0, pack.back)

    def _check(self, batch: UnderstandBatch) -> None:
        p = self.config.patch
        if batch.patches.shape[1:] != (3, p, p) or batch.features.shape[1] != self.feature_dim:
            raise ValueError(
                f"patches {tuple(batch.patches.shape)} and features {tuple(batch.features.shape)} do not fit understanding.patch = {p} "
                f"and {self.feature_dim} features; build the encoder for the generation tokenizer that gives the features"
            )
        for frames in {size.frames for size in batch.sizes} - {1, self.config.chunk}:
            raise ValueError(f"a read has {frames} frames, which must be 1 (image) or {self.config.chunk} (chunk); cut or pad the clip")


@dataclass(frozen=True)
class Pack:
    """Where the patches of a batch stand, and which become one token. `squares`: `m K` patches of the pack, first those of images, then
    those of chunks; `back: M`: where each token of the batch lies in them.
    """

    places: Tensor                  # P 2  row and column in the frame
    frames: FrameAttention
    squares: tuple[Tensor, ...]
    back: Tensor

    @classmethod
    def of(
        cls, sizes: tuple[ReadSize, ...], chunk: int, device: torch.device,
        attention: Callable[[tuple[int, ...], torch.device], FrameAttention] = FrameBuckets.of,
    ) -> Pack:
        places = [torch.zeros(0, 2, dtype=torch.int64)]
        squares: dict[int, list[Tensor]] = {f: [torch.zeros(0, f * MERGE**2, dtype=torch.int64)] for f in (1, chunk)}
        at: dict[int, list[Tensor]] = {f: [torch.zeros(0, dtype=torch.int64)] for f in (1, chunk)}
        patches = tokens = 0
        for size in sizes:
            own = squares_of(size.frames, size.height, size.width)
            places.append(places_of(size.height, size.width).repeat(size.frames, 1))
            squares[size.frames].append(own + patches)
            at[size.frames].append(torch.arange(tokens, tokens + len(own)))
            patches, tokens = patches + size.patches, tokens + len(own)
        back = torch.empty(tokens, dtype=torch.int64)
        back[torch.cat([x for parts in at.values() for x in parts])] = torch.arange(tokens)
        lengths = tuple(size.height * size.width for size in sizes for _ in range(size.frames))
        joined = tuple(torch.cat(parts).to(device) for parts in squares.values())
        return cls(torch.cat(places).to(device), attention(lengths, device), joined, back.to(device))


@lru_cache(maxsize=256)
def places_of(height: int, width: int) -> Tensor:
    """Row and column of every patch of a frame: `h*w 2`."""
    return torch.cartesian_prod(torch.arange(height), torch.arange(width)).view(-1, 2)


@lru_cache(maxsize=256)
def squares_of(frames: int, height: int, width: int) -> Tensor:
    """The patches of each 2 x 2 square of a read, of all its frames: `m (f 2 2)`, row by row; an odd side repeats its last ones."""
    numbers = rearrange(torch.arange(frames * height * width), "(f h w) -> f h w", f=frames, h=height)
    if height % MERGE:
        numbers = torch.cat([numbers, numbers[:, -1:]], 1)
    if width % MERGE:
        numbers = torch.cat([numbers, numbers[:, :, -1:]], 2)
    return rearrange(numbers, "f (h a) (w b) -> (h w) (f a b)", a=MERGE, b=MERGE)
