"""Sizes and training of the vision tokenizer, in steps. The defaults are the tiny CPU case (docs/experiments.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ernie5.tokenizers.adversarial import AdversarialConfig
from ernie5.tokenizers.vision.bit_series import check_series
from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig
from ernie5.tokenizers.vision.perceptual import PerceptualConfig
from ernie5.tokenizers.vision.scales import ScaleConfig
from ernie5.tokenizers.vision.semantic import SemanticConfig
from ernie5.tokenizers.vision.windows import WindowConfig


@dataclass(frozen=True)
class VisionTokenizerConfig:
    """`image_*`: stage 1, the 2-D model on pictures; `video_*`: stage 2, the inflated model on pictures and clips together.

    `windows`: null = media as `data.limits` gives them, all in memory; else random windows of media of any size, read when drawn.
    `gradient` is the perceptual loss that needs no weights; `perceptual` adds a network's.
    """

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (0, 1, 1)   # residual blocks of each level
    bits: int = 16
    bit_series: tuple[int, ...] = ()      # widths that the decoder learns to show, the last is `bits`; () = all bits alone
    temporal_stride: int = 4
    time_kernel: int = 3                  # latent frames that a convolution of the lowest level sees
    stem: int = 2                         # the side of the squares of pixels that are folded into channels first
    norm: Literal["frame", "cell"] = "frame"  # over a frame, in groups of channels; or over the channels of a cell
    shortcuts: bool = False               # plain paths around what halves and doubles, no norms and activations at the ends
    attention: int = 0                    # heads of the attention among the cells of the lowest level, 0 = none
    scales: ScaleConfig = ScaleConfig()

    start_from: str = ""                  # folder of a trained tokenizer of these sizes: stage 2 goes on from it, stage 1 is left out
    windows: WindowConfig | None = None
    image_steps: int = 350
    image_batch: int = 32                 # pictures a step
    video_steps: int = 220
    video_images: int = 24                # pictures a step
    video_clips: int = 8                  # clips a step
    clip_share: float = 0.4               # of the clips in the loss of stage 2

    matrix_lr: float = 0.03               # Muon
    vector_lr: float = 3e-3               # AdamW
    weight_decay: float = 0.1             # of matrices
    warmup_steps: int = 20
    flat_share: float = 0.6               # of a stage's steps, before the learning rate falls
    max_grad_norm: float = 1.0
    accumulate: int = 1                   # batches a step
    momentum: float = 0.1                 # of the running statistics of latents and bits; smaller for small batches
    average: float = 0.0                  # decay of the average of the weights that is kept in the end, 0 = the last weights
    device: str = "cpu"                   # cuda
    precision: Literal["float32", "bfloat16"] = "float32"  # of convolutions and attention

    foreground: float = 3.0               # extra weight of pixels far from the frame's median colour
    squared: float = 2.0                  # weight of the squared beside the absolute error
    gradient: float = 1.0                 # weight of the multi-scale gradient loss
    perceptual: PerceptualConfig = PerceptualConfig()
    commitment: float = 0.1
    balance: float = 0.3
    entropy: float = 0.0                  # weight of the entropy loss of the bits
    entropy_batch: float = 1.0            # in it: how much the batch's entropy counts beside the single bit's
    adversarial: AdversarialConfig = AdversarialConfig()
    semantic: SemanticConfig = SemanticConfig()

    def __post_init__(self) -> None:
        _ = self.autoencoder  # sizes are checked there
        check_series(self.bit_series, self.bits)
        if self.temporal_stride < 2:
            raise ValueError(f"temporal_stride = {self.temporal_stride} must be 2 or more; use 4")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share = {self.clip_share} must lie between 0 and 1; use 0.4")
        for name in ("image_steps", "image_batch", "video_steps", "video_images", "video_clips", "accumulate"):
            if getattr(self, name) < (0 if name.endswith("steps") else 1):
                raise ValueError(f"{name} = {getattr(self, name)} is too small; steps may be 0, batches must hold 1 or more")
        if not 0 < self.momentum <= 1:
            raise ValueError(f"momentum = {self.momentum} must be above 0 and at most 1; for example 0.1, or 0.02 for batches of one")
        if not 0 <= self.average < 1:
            raise ValueError(f"average = {self.average} must be at least 0 (off) and below 1; for example 0.999")
        if self.windows is not None:
            self.windows.check(self.autoencoder.stride, self.temporal_stride)

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """The sizes of the video model."""
        return AutoencoderConfig(self.channels, self.blocks, self.bits, self.temporal_stride, self.time_kernel, self.stem, self.norm,
                                 self.shortcuts, self.attention)
