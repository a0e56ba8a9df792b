"""Training of the causal codec on recordings: first the network alone, then its latents become codes, then a critic listens.

    step < warm share:  decoder reads the latents as they are                  then: k-means of many latents starts the codebooks
    after:              decoder reads latents + (values - latents).detach();  values of all levels, or of a random number of them
    loss                magnitudes + mel at several windows (+ wave) + commitment + distillation of level 1 (+ critic, adversarial.py)
Every draw comes from (seed, purpose, step), and all that moves is in `tensors`: a resumed training is the uninterrupted one, bit for bit
on a CPU. Report: §2.3.1 (distillation of code 1). Ours: the schedule, Muon, quantizer dropout (SoundStream, arXiv 2107.03312).
Letters: n sounds, s samples, f codec frames, t steps, b bins, d latent width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ernie5.run.random_streams import stream
from ernie5.tokenizers.adversarial import Adversary
from ernie5.tokenizers.audio import losses
from ernie5.tokenizers.audio.causal_codec import CausalCodec
from ernie5.tokenizers.audio.causal_config import CausalCodecConfig
from ernie5.tokenizers.audio.causal_training import CausalTraining
from ernie5.tokenizers.audio.critic import SoundCritic
from ernie5.tokenizers.audio.mel_scales import MelScales
from ernie5.tokenizers.audio.recordings import Recordings
from ernie5.tokenizers.audio.spectrogram import magnitudes_of
from ernie5.tokenizers.audio.teacher import AudioTeacher, teacher_named
from ernie5.tokenizers.fit import Saves, fit
from ernie5.tokenizers.muon import MuonWithAdamW, flat_then_linear

SILENT_DB = -53.0  # mean square of a frame: 50 dB below a full-scale sine


def train_causal_codec(
    config: CausalCodecConfig,
    sounds: Recordings | Sequence[Tensor],
    *,
    seed: int,
    training: CausalTraining | None = None,
    saves: Saves | None = None,
) -> CausalCodec:
    """A codec for sounds like these, float `s` at the codec's rate, each. With `saves`, an interrupted training goes on exactly.

    ValueError where there is no sound.
    """
    training = training or CausalTraining()
    recordings = sounds if isinstance(sounds, Recordings) else Recordings.of(sounds)
    trainee = CausalTrainee(config, recordings, training, seed)
    fit(trainee, "audio codec", saves)
    return trainee.codec.cpu().eval().requires_grad_(False)


class CausalTrainee:
    """A `Trainee` (tokenizers/fit.py)."""

    def __init__(self, config: CausalCodecConfig, recordings: Recordings, training: CausalTraining, seed: int) -> None:
        self.recordings, self.training, self.seed, self.num_steps = recordings, training, seed, training.num_steps
        self.device = device_named(training.device)
        self.teacher: AudioTeacher | None = teacher_named(
            training.teacher, training.teacher_path, config.sample_rate_hz, config.hop_samples)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(seed, "audio codec weights").integers(2**31)))
            self.codec = CausalCodec(config).to(self.device)
            self.parts = nn.ModuleDict({"codec": self.codec})
            if self.teacher:
                self.parts["projection"] = nn.Linear(config.network.latent_dim, self.teacher.dim).to(self.device)
            critic = SoundCritic(training.critic_windows, training.critic_periods, training.adversarial.channels)
        self.adversary = Adversary(critic.to(self.device), training.adversarial).to(self.device) if training.adversarial.weight else None
        self.optimizer = MuonWithAdamW(self.parts.parameters(), matrix_lr=training.matrix_lr, vector_lr=training.vector_lr)
        self.mel = MelScales(training.mel_windows, config.sample_rate_hz)
        self.first_quantized = min(round(training.warm_share * training.num_steps), training.num_steps - 1)
        if self.teacher:
            taught = self.teacher.features(self.batch(0))
            self.taught_mean, self.taught_scale = taught.mean((0, 1)), taught.std((0, 1)).square().mean().sqrt().clamp_min(1e-4)

    def batch(self, step: int, purpose: str = "audio codec batch") -> Tensor:
        """Random pieces `n s` of `crop_frames` codec frames."""
        training = self.training
        return self.recordings.batch(
            self.seed, purpose, step, count=training.batch_size, length=training.crop_frames * self.codec.config.hop_samples,
            loudness_db=training.loudness_db).to(self.device)

    def step(self, step: int) -> dict[str, float]:
        """One update of the codec, then one of the critic."""
        if step == self.first_quantized:
            self._start_codebooks()
        factor = flat_then_linear(step, self.num_steps, warmup=self.training.warmup_steps, flat=self.training.flat_share)
        before = {name: value.clone() for name, value in self.codec.quantizer.learned().items()}
        sounds = self.batch(step)
        decoded, parts = self._losses(sounds, step)
        loss = torch.stack(list(parts.values())).sum()
        wanted = loss
        if self.adversary:
            wanted = loss + self.adversary.decoder_loss(sounds, decoded, loss, self.codec.decoder.magnitude_out.weight, step)
        self.optimizer.zero_grad()
        wanted.backward()
        norm = nn.utils.get_total_norm(p.grad for p in self.parts.parameters() if p.grad is not None)
        numbers = {name: float(value.detach()) for name, value in parts.items()}
        if torch.isfinite(norm) and torch.isfinite(wanted):
            self.optimizer.step(factor)
            if self.adversary:
                numbers |= self.adversary.learn(sounds, decoded, step)
        else:
            for name, value in self.codec.quantizer.learned().items():
                value.copy_(before[name])
            loss = loss * torch.nan
        return {"loss": float(loss.detach()), "grad_norm": float(norm), **numbers}

    def tensors(self) -> dict[str, Tensor]:
        """All that moves."""
        critic = {f"critic.{name}": value for name, value in self.adversary.tensors().items()} if self.adversary else {}
        return {**self.parts.state_dict(), **self.codec.quantizer.learned(), **self.optimizer.tensors(), **critic}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """What `tensors` gave."""
        self.parts.load_state_dict({name: tensors[name] for name in self.parts.state_dict()})
        for name, value in self.codec.quantizer.learned().items():
            value.copy_(tensors[name])
        self.optimizer.load(tensors)
        if self.adversary:
            self.adversary.load({name.removeprefix("critic."): value for name, value in tensors.items() if name.startswith("critic.")})

    def _losses(self, sounds: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """The decoded sounds (where a loss hears them), and every loss times its weight."""
        training, codec = self.training, self.codec
        spectra, _ = codec.spectrogram.spectra(sounds, None)                            # n t b
        with self._precision():
            latents, _ = codec.encoder(spectra, None)                                   # n f d, float32
        values: Tensor = latents
        parts: dict[str, Tensor] = {}
        if step >= self.first_quantized:
            values, parts = self._quantized(latents, sounds, step)
        with self._precision():
            features, compressed, _ = codec.decoder(values, None)
        target = codec.spectrogram.compress(magnitudes_of(spectra))
        parts["spectrum"] = training.spectrum_weight * losses.magnitude_loss(compressed, target)
        if not training.hears:
            return sounds, parts
        complete, rest = codec.spectrogram.sounds(codec.phase.taught(features, compressed, spectra), None)
        decoded = torch.cat([complete[:, codec.spectrogram.latency:], codec.spectrogram.last(rest)], 1)
        if training.mel_weight:
            parts["mel"] = training.mel_weight * self.mel.loss(decoded, sounds)
        if training.wave_weight:
            parts["wave"] = training.wave_weight * losses.wave_loss(decoded, sounds)
        return decoded, parts

    def _quantized(self, latents: Tensor, sounds: Tensor, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """What the decoder reads `n f d`, and the losses of the codes. Moves the codebooks."""
        training, quantizer = self.training, self.codec.quantizer
        quantized = quantizer(latents)
        heard = self._worth_codes(sounds, step)                                         # N of the n f
        if heard.any():
            quantizer.learn(latents.detach()[heard], quantized.codes[heard], stream(self.seed, "audio codec restarts", step))
        values = quantizer.decode_first(quantized.codes, self._levels(step, len(sounds)))
        parts = {"commitment": training.commitment_weight * losses.commitment_loss(latents, quantized.values)}
        if self.teacher:
            taught = (self.teacher.features(sounds) - self.taught_mean) / self.taught_scale
            projected = self.parts["projection"](latents + (quantized.first - latents).detach())
            parts["distillation"] = training.distillation_weight * losses.distillation_loss(projected, taught, training.distance)
        return latents + (values - latents).detach(), parts

    def _worth_codes(self, sounds: Tensor, step: int) -> Tensor:
        """bool `n f`: the frames that are not silent, and some of the others, so that codes are for what can be heard."""
        power = sounds.unfold(1, self.codec.config.hop_samples, self.codec.config.hop_samples).square().mean(-1)
        drawn = stream(self.seed, "audio codec silent frames", step).random(tuple(power.shape)) < self.training.silent_share
        return (power > 10 ** (SILENT_DB / 10)) | torch.from_numpy(drawn).to(self.device)

    def _levels(self, step: int, count: int) -> Tensor:
        """How many levels each sound is decoded from."""
        random = stream(self.seed, "audio codec levels", step)
        drawn = random.integers(1, self.codec.num_codebooks + 1, count)
        drawn[random.random(count) >= self.training.dropout_share] = self.codec.num_codebooks
        return torch.from_numpy(drawn).to(self.device)

    def _precision(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.training.bf16)

    @torch.no_grad()
    def _start_codebooks(self) -> None:
        """k-means of the latents of fresh batches."""
        per_batch = self.training.batch_size * self.training.crop_frames
        count = -(-self.training.kmeans_latents // per_batch)
        batches = [self.batch(i, "audio codec start") for i in range(count)]
        latents = [self.codec.latents(sounds)[0][self._worth_codes(sounds, -1 - i)] for i, sounds in enumerate(batches)]
        found = torch.cat(latents)
        if not len(found):
            raise ValueError("all recordings are silent: nothing to learn codes from; look at the sources, or use silent_share: 1")
        self.codec.quantizer.initialize(found, stream(self.seed, "audio codec centres"))


def device_named(name: str) -> torch.device:
    """auto, cpu or cuda."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("device = cuda: this machine shows no GPU; use device: auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
