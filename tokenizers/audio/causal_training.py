"""How a causal codec is trained: the schedule, what it hears, and the weights of its losses.

Report: §2.3.1 (distillation of code 1). Ours: the rest, by measurement (docs/experiments.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ernie5.tokenizers.adversarial import AdversarialConfig


@dataclass(frozen=True)
class CausalTraining:
    """The defaults suit real recordings on a CPU."""

    num_steps: int = 2000
    batch_size: int = 16
    crop_frames: int = 13                 # longer recordings give a random piece, shorter ones are followed by silence
    matrix_lr: float = 0.02               # Muon
    vector_lr: float = 2e-3               # AdamW
    warmup_steps: int = 50
    flat_share: float = 0.5               # of the steps, before the learning rate falls
    warm_share: float = 0.1               # of the steps, before the latents are quantized
    kmeans_latents: int = 8192            # frames that start the codebooks
    silent_share: float = 0.1             # of the silent frames, that codebooks learn from
    dropout_share: float = 0.5            # of the sounds, that are decoded from a random number of levels
    loudness_db: tuple[float, float] = (-32.0, -10.0)  # of every piece, drawn; below full scale
    spectrum_weight: float = 1.0          # of the predicted magnitudes
    mel_weight: float = 0.0               # of the decoded sound, at every window; a learned phase needs it
    mel_windows: tuple[int, ...] = (256, 512, 1024, 2048)
    wave_weight: float = 0.0
    commitment_weight: float = 0.25
    distillation_weight: float = 0.1
    teacher: str = "logmel"               # logmel, whisper, none, or module:Class
    teacher_path: str = ""                # folder of a Whisper model, or whatever your class makes of it
    distance: Literal["l2", "cosine"] = "l2"
    adversarial: AdversarialConfig = AdversarialConfig()
    critic_windows: tuple[int, ...] = (2048, 1024, 512)  # the critic's views as spectra
    critic_periods: tuple[int, ...] = ()                 # and as samples so far apart, for example 2, 3, 5, 7, 11
    device: Literal["auto", "cpu", "cuda"] = "auto"      # auto: a GPU where there is one
    bf16: bool = False                    # of the network; transforms, codes and losses stay float32
    cache_mib: int = 1024                 # of decoded recordings

    @property
    def hears(self) -> bool:
        """Whether a loss compares sounds."""
        return bool(self.mel_weight or self.wave_weight or self.adversarial.weight)

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "crop_frames", "kmeans_latents", "cache_mib"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 0 <= self.warm_share < 1 or not 0 <= self.flat_share < 1:
            raise ValueError(f"warm_share = {self.warm_share} and flat_share = {self.flat_share} must be in [0, 1); use 0.1 and 0.5")
        for name in ("dropout_share", "silent_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be in [0, 1]; use {getattr(type(self), name)}")
        if len(self.loudness_db) != 2 or not self.loudness_db[0] <= self.loudness_db[1] <= 0:
            raise ValueError(f"loudness_db = {self.loudness_db} must be two numbers, rising and at most 0; use [-32, -10]")
        if not self.mel_windows or min(self.mel_windows) < 64 or any(w % 4 for w in self.mel_windows):
            raise ValueError(f"mel_windows = {self.mel_windows} must be multiples of 4 from 64; use [256, 512, 1024, 2048]")
        if self.adversarial.weight and not (self.critic_windows or self.critic_periods):
            raise ValueError("critic_windows and critic_periods are empty: the critic would see nothing; use critic_windows: [1024, 512]")
        if self.distance not in ("l2", "cosine"):
            raise ValueError(f"distance = {self.distance!r} must be one of l2, cosine")
