"""Sizes and training of the vision tokenizer, in steps. The defaults are the tiny CPU case (docs/experiments.md)."""

from __future__ import annotations

from dataclasses import dataclass

from ernie5.tokenizers.vision.bit_series import check_series
from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig


@dataclass(frozen=True)
class VisionTokenizerConfig:
    """`image_*`: stage 1, the 2-D model on pictures; `video_*`: stage 2, the inflated model on pictures and clips together."""

    channels: tuple[int, ...] = (16, 32, 64)
    blocks: tuple[int, ...] = (0, 1, 1)   # residual blocks of each level
    bits: int = 16
    bit_series: tuple[int, ...] = ()      # widths that the decoder learns to show, the last is `bits`; () = all bits alone
    temporal_stride: int = 4
    time_kernel: int = 3                  # latent frames that a convolution of the lowest level sees

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

    foreground: float = 3.0               # extra weight of pixels far from the frame's median colour
    squared: float = 2.0                  # weight of the squared beside the absolute error
    gradient: float = 1.0                 # weight of the multi-scale gradient loss
    commitment: float = 0.1
    balance: float = 0.3

    def __post_init__(self) -> None:
        _ = self.autoencoder  # sizes are checked there
        check_series(self.bit_series, self.bits)
        if self.temporal_stride < 2:
            raise ValueError(f"temporal_stride = {self.temporal_stride} must be 2 or more; use 4")
        if not 0 < self.clip_share < 1:
            raise ValueError(f"clip_share = {self.clip_share} must lie between 0 and 1; use 0.4")
        for name in ("image_steps", "image_batch", "video_steps", "video_images", "video_clips"):
            if getattr(self, name) < (0 if name.endswith("steps") else 1):
                raise ValueError(f"{name} = {getattr(self, name)} is too small; steps may be 0, batches must hold 1 or more")

    @property
    def autoencoder(self) -> AutoencoderConfig:
        """The sizes of the video model."""
        return AutoencoderConfig(self.channels, self.blocks, self.bits, self.temporal_stride, self.time_kernel)
