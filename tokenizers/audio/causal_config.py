"""What a causal codec is: the codes that it gives, and the network between sound and codes.

    80 ms of sound = 1 codec frame = `steps_per_frame` short-time steps of hop_samples / steps_per_frame samples
Sizes of the recipes: `tiny` as the defaults, `base` and `large` in recipes/tokenizers/.
Report: §2.3.1 (12.5 Hz). Ours: everything else (the report does not say how its codec is built).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class CausalNetworkConfig:
    """Sizes of encoder and decoder, which mirror each other."""

    steps_per_frame: int = 8      # short-time steps in a codec frame: 100 Hz
    fft_size: int = 640           # window of a step; the decoder is fft_size - step samples late
    floor: float = 0.1            # magnitudes far below cost nothing
    phase_in: bool = False        # the encoder sees phases too: waveforms can be followed, for high bit rates
    phase: Literal["continued", "learned"] = "continued"  # how magnitudes become sound (causal_phase.py)
    phase_iterations: int = 4     # of the continued one, for each step
    latent_dim: int = 32
    dim: int = 160                # width per step
    step_blocks: int = 3          # convolutions over steps, on either side
    step_layers: int = 0          # attention over steps, on either side
    step_window: int = 100        # steps that it sees, itself included
    frame_dim: int = 320          # width per codec frame
    frame_blocks: int = 1
    frame_layers: int = 0
    frame_window: int = 125       # 10 s
    head_dim: int = 64            # of attention

    def __post_init__(self) -> None:
        for name in ("steps_per_frame", "latent_dim", "dim", "frame_dim", "step_window", "frame_window", "head_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        for name in ("step_blocks", "step_layers", "frame_blocks", "frame_layers", "phase_iterations"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} = {getattr(self, name)} must not be negative; 0 leaves them out")
        for width, layers in (("dim", "step_layers"), ("frame_dim", "frame_layers")):
            if getattr(self, layers) and getattr(self, width) % self.head_dim:
                raise ValueError(f"head_dim = {self.head_dim} must divide {width} = {getattr(self, width)}, which has {layers}; use 64")
        if self.phase not in ("continued", "learned"):
            raise ValueError(f"phase = {self.phase!r} must be one of continued, learned")
        if self.floor <= 0:
            raise ValueError(f"floor = {self.floor} must be above 0; use 0.1")


@dataclass(frozen=True)
class CausalCodecConfig:
    """A codec: `num_codebooks` codes of `codebook_size` for every `hop_samples` of sound, coarse to fine."""

    num_codebooks: int = 8
    codebook_size: int = 256
    sample_rate_hz: int = 16_000
    hop_samples: int = 1280
    network: CausalNetworkConfig = CausalNetworkConfig()

    def __post_init__(self) -> None:
        for name in ("num_codebooks", "codebook_size", "sample_rate_hz", "hop_samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        steps, window = self.network.steps_per_frame, self.network.fft_size
        if self.hop_samples % steps:
            raise ValueError(f"steps_per_frame = {steps} must divide hop_samples = {self.hop_samples}; use 4 or 8")
        hop = self.hop_samples // steps
        if window % 2 or window % hop or window < 3 * hop:
            raise ValueError(f"fft_size = {window} must be even and a multiple, 3 or more, of hop_samples / steps_per_frame = {hop}; "
                             f"use {4 * hop}")
        if window - hop > self.hop_samples:
            raise ValueError(f"fft_size = {window} must be at most hop_samples + one step = {self.hop_samples + hop}; use {4 * hop}")

    @property
    def latency_samples(self) -> int:
        """How much later than its codes the end of a decoded frame is heard (the encoder does not look ahead)."""
        return self.network.fft_size - self.hop_samples // self.network.steps_per_frame
