"""Causal 3-D convolutional autoencoder; images are clips of one frame, and the 2-D network is the case `temporal_stride = 1`.

    encoder: unshuffle(stem) -> c_0 -> halve -> c_1 -> ... -> halve, 1 + T frames -> 1 + T / temporal_stride -> c_L -> d, normalised
    decoder: the mirror image

Only the lowest level looks across frames (and, with `attention`, across the cells of a frame), so high-resolution work stays 2-D and a
frame of a clip costs what an image costs. The latent is normalised per channel by running statistics (not over channels): then the first
d_i channels do not depend on the others.
Report: §2.2.1 (2-D multi-scale tokenizer, inflated to causal 3-D). Ours: all sizes.
Letters: n clips, t frames, t' latent frames, c channels, d bits, h w pixels, h' w' latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.vision.causal_convolution import CausalConv, CausalUp, CellNorm, FrameNorm, RunningNorm, ShortDown, ShortUp
from ernie5.tokenizers.vision.cell_attention import CellAttention

GROUPS = 8   # of the frame norms


@dataclass(frozen=True)
class AutoencoderConfig:
    """Sizes of the autoencoder; the spatial stride is stem * 2 ** (len(channels) - 1)."""

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (0, 1, 2)   # residual blocks of each level
    bits: int = 16
    temporal_stride: int = 4              # 1: the image model
    time_kernel: int = 3                  # frames that a residual block of the lowest level sees
    stem: int = 2                         # the side of the squares of pixels that are folded into channels first
    norm: Literal["frame", "cell"] = "frame"  # over a frame, in groups of channels; or over the channels of a cell
    shortcuts: bool = False               # plain paths around what halves and doubles, no norms and activations at the ends
    attention: int = 0                    # heads of the attention among the cells of the lowest level, 0 = none

    def __post_init__(self) -> None:
        if len(self.channels) < 2 or any(c % GROUPS for c in self.channels):
            raise ValueError(f"autoencoder.channels = {self.channels} must be two or more multiples of {GROUPS}; for example (16, 32, 64)")
        if self.stem < 1:
            raise ValueError(f"autoencoder.stem = {self.stem} must be 1 or more; 2 folds 2 x 2 pixels, 8 suits short trainings")
        if len(self.blocks) != len(self.channels):
            raise ValueError(f"autoencoder.blocks = {self.blocks} must have one number per level; give {len(self.channels)} numbers")
        if self.shortcuts and any(4 * a % b for a, b in pairwise(self.channels)):
            raise ValueError(f"autoencoder.channels = {self.channels} do not suit shortcuts: those of a level must divide 4 x those of the "
                             "level above; for example (64, 128, 256)")
        if self.attention < 0 or (self.attention and self.channels[-1] % self.attention):
            raise ValueError(f"autoencoder.attention = {self.attention} heads must divide the {self.channels[-1]} channels of the "
                             "lowest level; use 0 for none")

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.stem * 2 ** (len(self.channels) - 1)

    def image_model(self) -> "AutoencoderConfig":
        """The 2-D network of the same sizes."""
        return replace(self, temporal_stride=1, time_kernel=1)


def make_norm(kind: Literal["frame", "cell"], channels: int) -> nn.Module:
    """The norm of the settings."""
    return FrameNorm(GROUPS, channels) if kind == "frame" else CellNorm(channels)


class ResidualBlock(nn.Module):
    """Two convolutions around a shortcut, `n t c h w` -> same."""

    def __init__(self, channels: int, time_kernel: int, norm: Literal["frame", "cell"] = "frame") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            make_norm(norm, channels), nn.SiLU(), CausalConv(channels, channels, time_kernel=time_kernel),
            make_norm(norm, channels), nn.SiLU(), CausalConv(channels, channels, time_kernel=time_kernel),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class CausalAutoencoder(nn.Module):
    """`features`, `latent`, `decode`: the three steps a tokenizer needs; all pixels are floats in [-1, 1]."""

    def __init__(self, config: AutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        channels, last = config.channels, len(config.channels) - 1
        kernels = [1] * last + [config.time_kernel]

        def blocks(level: int) -> list[nn.Module]:
            return [ResidualBlock(channels[level], kernels[level], config.norm) for _ in range(config.blocks[level])]

        def attention() -> list[nn.Module]:
            return [CellAttention(make_norm(config.norm, channels[-1]), channels[-1], config.attention)] if config.attention else []

        def bend(level: int) -> list[nn.Module]:  # with shortcuts the ends are linear: what is linear in the task is then learnt at once
            return [] if config.shortcuts else [make_norm(config.norm, channels[level]), nn.SiLU()]

        encoder: list[nn.Module] = [CausalConv(3 * config.stem**2, channels[0]), *([] if config.shortcuts else [nn.SiLU()]), *blocks(0)]
        for level in range(1, last + 1):
            time = config.temporal_stride if level == last else 1
            halve = CausalConv(channels[level - 1], channels[level], 4, time_kernel=time, stride=2, time_stride=time)
            encoder += [ShortDown(halve) if config.shortcuts else halve, *blocks(level)]
        self.encoder = nn.Sequential(*encoder, *attention(), *bend(last))
        self.to_latent = CausalConv(channels[-1], config.bits, 1)
        kind = nn.BatchNorm2d if config.norm == "frame" else RunningNorm
        self.latent_norm = kind(config.bits, affine=False)

        decoder: list[nn.Module] = [CausalConv(config.bits, channels[-1], time_kernel=kernels[-1]), *attention(), *blocks(last)]
        for level in reversed(range(last)):
            time = config.temporal_stride if level == last - 1 else 1
            double = CausalUp(channels[level + 1], channels[level], time=time)
            decoder += [ShortUp(double) if config.shortcuts else double, *blocks(level)]
        self.decoder = nn.Sequential(*decoder, *bend(0), CausalConv(channels[0], 3 * config.stem**2))

    def features(self, pixels: Tensor) -> Tensor:
        """pixels `n t 3 h w` -> the last feature map `n t' c h' w'`; t = 1 + temporal_stride * (t' - 1)."""
        return self.encoder(fold(pixels, self.config.stem))

    def latent(self, features: Tensor) -> Tensor:
        """features `n t' c h' w'` -> latent `n t' d h' w'`, every channel with mean 0 and deviation 1 over the training media."""
        x = self.to_latent(features).float()  # lower precision ends here: bits are thresholds
        return self.latent_norm(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    def encode(self, pixels: Tensor) -> Tensor:
        """pixels `n t 3 h w` -> latent `n t' d h' w'`."""
        return self.latent(self.features(pixels))

    def decode(self, total: Tensor) -> Tensor:
        """latent or its quantized sum `n t' d h' w'` -> pixels `n t 3 h w`."""
        return unfold(self.decoder(total), self.config.stem)


def fold(pixels: Tensor, stem: int) -> Tensor:
    """pixels `n t 3 h w` -> what the encoder's layers read."""
    return rearrange(pixels, "n t c (h a) (w b) -> n t (c a b) h w", a=stem, b=stem)


def unfold(x: Tensor, stem: int) -> Tensor:
    """What the decoder's layers give -> pixels `n t 3 h w`."""
    return rearrange(x, "n t (c a b) h w -> n t c (h a) (w b)", a=stem, b=stem)


def inflate(image: CausalAutoencoder, video: CausalAutoencoder) -> None:
    """Overwrite `video` so that it treats single frames exactly as `image` does (a clip: one picture a latent frame)."""
    if video.config.image_model() != image.config:
        raise ValueError(f"the image model has {image.config}, the video model {video.config}; all but the temporal sizes must agree")
    for old, new in zip(image.modules(), video.modules(), strict=True):
        if isinstance(new, CausalConv) and isinstance(old, CausalConv):  # the convolution of CausalUp too: its frames are repeated
            new.inflate_from(old)
        elif not list(new.children()):   # norms: weights and running statistics
            new.load_state_dict(old.state_dict())
