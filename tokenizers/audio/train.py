"""Training of the audio codec: first the autoencoder alone, then its latents become codes.

    step < warm share:  magnitude loss on the latents as they are          then: k-means of many latents starts the codebooks
    after:              decoder reads latents + (quantized - latents).detach();  + commitment  + distillation of level 1
Every draw comes from a stream keyed by (seed, purpose, step): the same arguments give the same codec on the same machine and thread count.
Report: §2.3.1 (distillation of code 1). Ours: the schedule, Muon (docs/experiments.md).
Letters: n sounds, s samples, f codec frames, t short frames, b bins, d latent width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ernie5.run.random_streams import stream
from ernie5.tokenizers.audio import losses
from ernie5.tokenizers.audio.codec import AudioCodec, AudioCodecConfig
from ernie5.tokenizers.audio.spectrogram import magnitudes_of
from ernie5.tokenizers.audio.teacher import AudioTeacher, teacher_named
from ernie5.tokenizers.fit import Saves, fit
from ernie5.tokenizers.muon import MuonWithAdamW, flat_then_linear


@dataclass(frozen=True)
class AudioCodecTraining:
    """How a codec is trained; the defaults suit the demo world on a CPU."""

    num_steps: int = 400
    batch_size: int = 32
    crop_frames: int = 13                 # longer sounds give a random piece, shorter ones are padded with silence
    matrix_lr: float = 0.03               # Muon
    vector_lr: float = 3e-3               # AdamW
    warmup_steps: int = 20
    flat_share: float = 0.5               # of the steps, before the learning rate falls
    warm_share: float = 0.2               # of the steps, before the latents are quantized
    kmeans_latents: int = 4096            # frames that start the codebooks
    commitment_weight: float = 0.25
    distillation_weight: float = 0.1
    multi_resolution_weight: float = 0.0  # of waveforms, with the true phase: steps take 2.5 x as long, no gain in short runs
    wave_weight: float = 0.0
    teacher: Literal["logmel", "whisper", "none"] = "logmel"
    teacher_path: str = ""                # folder of a Whisper model
    distance: Literal["l2", "cosine"] = "l2"

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "crop_frames", "kmeans_latents"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 0 <= self.warm_share < 1 or not 0 <= self.flat_share < 1:
            raise ValueError(f"warm_share = {self.warm_share} and flat_share = {self.flat_share} must be in [0, 1); use 0.2 and 0.5")
        if self.teacher not in ("logmel", "whisper", "none"):
            raise ValueError(f"teacher = {self.teacher!r} must be one of logmel, whisper, none")
        if self.distance not in ("l2", "cosine"):
            raise ValueError(f"distance = {self.distance!r} must be one of l2, cosine")


def build_teacher(config: AudioCodecConfig, training: AudioCodecTraining) -> AudioTeacher | None:
    """The teacher that `training` names; None for "none"."""
    return teacher_named(training.teacher, training.teacher_path, config.sample_rate_hz, config.hop_samples)


def train_audio_codec(
    config: AudioCodecConfig,
    sounds: Sequence[Tensor],
    *,
    seed: int,
    training: AudioCodecTraining | None = None,
    teacher: AudioTeacher | None = None,
    saves: Saves | None = None,
) -> AudioCodec:
    """A codec for sounds like these, each float `s` at the codec's rate. `teacher` takes the place of the one that `training` names. With
    `saves`, an interrupted training goes on exactly.

    ValueError for an empty corpus or a sound that is not one float row with at least one sample.
    """
    training = training or AudioCodecTraining()
    _check(sounds)
    teacher = teacher or build_teacher(config, training)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(stream(seed, "audio codec weights").integers(2**31)))
        codec = AudioCodec(config)
        projection = nn.Linear(config.latent_dim, teacher.dim) if teacher else None
    trainer = _Trainer(codec, projection, teacher, sounds, training, seed)
    fit(trainer, "audio codec", saves)
    return codec.eval().requires_grad_(False)


class _Trainer:
    """What lives as long as the training: optimizer, the scale of the teacher's features, whether codes are in use yet."""

    def __init__(self, codec: AudioCodec, projection: nn.Linear | None, teacher: AudioTeacher | None, sounds: Sequence[Tensor],
                 training: AudioCodecTraining, seed: int) -> None:
        self.codec, self.projection, self.teacher = codec, projection, teacher
        self.sounds, self.training, self.seed, self.num_steps = sounds, training, seed, training.num_steps
        self.parts = nn.ModuleDict({"codec": codec, **({"projection": projection} if projection else {})})
        self.optimizer = MuonWithAdamW(self.parts.parameters(), matrix_lr=training.matrix_lr, vector_lr=training.vector_lr)
        self.first_quantized = min(round(training.warm_share * training.num_steps), training.num_steps - 1)
        if teacher:
            taught = teacher.features(self.batch(0))
            self.taught_mean, self.taught_scale = taught.mean((0, 1)), taught.std((0, 1)).square().mean().sqrt().clamp_min(1e-4)

    def batch(self, step: int, purpose: str = "audio codec batch") -> Tensor:
        """Random sounds `n s`, all of `crop_frames` codec frames."""
        length = self.training.crop_frames * self.codec.config.hop_samples
        random = stream(self.seed, purpose, step)
        chosen = [self.sounds[i] for i in random.integers(0, len(self.sounds), self.training.batch_size)]
        starts = [int(random.integers(0, max(0, len(sound) - length) + 1)) for sound in chosen]
        pieces = [sound[start:start + length].float() for sound, start in zip(chosen, starts, strict=True)]
        return torch.stack([F.pad(piece, (0, length - len(piece))) for piece in pieces])

    def step(self, step: int) -> dict[str, float]:
        """One update; the loss before it."""
        if step == self.first_quantized:
            self._start_codebooks()
        factor = flat_then_linear(step, self.training.num_steps, warmup=self.training.warmup_steps, flat=self.training.flat_share)
        before = {name: value.clone() for name, value in self.codec.quantizer.learned().items()}
        loss = self._loss(self.batch(step), step)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.get_total_norm(p.grad for p in self.parts.parameters() if p.grad is not None)
        if torch.isfinite(norm) and torch.isfinite(loss):
            self.optimizer.step(factor)
        else:
            for name, value in self.codec.quantizer.learned().items():
                value.copy_(before[name])
            loss = loss * torch.nan
        return {"loss": float(loss.detach()), "grad_norm": float(norm)}

    def tensors(self) -> dict[str, Tensor]:
        """All that moves."""
        return {**self.parts.state_dict(), **self.codec.quantizer.learned(), **self.optimizer.tensors()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave."""
        self.parts.load_state_dict({name: tensors[name] for name in self.parts.state_dict()})
        for name, value in self.codec.quantizer.learned().items():
            value.copy_(tensors[name])
        self.optimizer.load(tensors)

    def _loss(self, sounds: Tensor, step: int) -> Tensor:
        training, autoencoder = self.training, self.codec.autoencoder
        spectra = autoencoder.spectrogram.spectra(sounds)                              # n t b
        target = autoencoder.spectrogram.compress(magnitudes_of(spectra))
        latents = autoencoder.encode(target)                                           # n f d
        if step < self.first_quantized:
            return losses.magnitude_loss(autoencoder.decode(latents), target)
        quantized = self.codec.quantizer(latents)
        random = stream(self.seed, "audio codec restarts", step)
        self.codec.quantizer.learn(latents.detach().flatten(0, 1), quantized.codes.flatten(0, 1), random)
        predicted = autoencoder.decode(latents + (quantized.values - latents).detach())
        loss = losses.magnitude_loss(predicted, target)
        loss = loss + training.commitment_weight * losses.commitment_loss(latents, quantized.values)
        if self.teacher and self.projection:
            taught = (self.teacher.features(sounds) - self.taught_mean) / self.taught_scale
            projected = self.projection(latents + (quantized.first - latents).detach())
            loss = loss + training.distillation_weight * losses.distillation_loss(projected, taught, training.distance)
        if training.multi_resolution_weight or training.wave_weight:
            magnitudes = autoencoder.spectrogram.expand(predicted)
            decoded = autoencoder.spectrogram.sounds(torch.polar(magnitudes, spectra.angle()))
            loss = loss + training.multi_resolution_weight * losses.multi_resolution_loss(decoded, sounds)
            loss = loss + training.wave_weight * losses.wave_loss(decoded, sounds)
        return loss

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """k-means of the latents of fresh batches."""
        frames_per_batch = self.training.batch_size * self.training.crop_frames
        latents = [
            self.codec.autoencoder.encode(self.codec.autoencoder.spectrogram.compressed(self.batch(i, "audio codec start"))).flatten(0, 1)
            for i in range(-(-self.training.kmeans_latents // frames_per_batch))
        ]
        self.codec.quantizer.initialize(torch.cat(latents), stream(self.seed, "audio codec centres"))


def _check(sounds: Sequence[Tensor]) -> None:
    if not len(sounds):
        raise ValueError("sounds is empty; give at least one sound to train the audio codec on")
    for i, sound in enumerate(sounds):
        if sound.ndim != 1 or not sound.is_floating_point() or not len(sound):
            raise ValueError(f"sounds[{i}] = {sound.dtype} {tuple(sound.shape)} must be float s with s >= 1; decode it as mono first")
