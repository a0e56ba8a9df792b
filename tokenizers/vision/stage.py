"""One stage of a vision tokenizer's training, a `Trainee`.

    loss = sum over kinds of share * (reconstruction + gradient + perceptual + adversarial + semantic) + commitment + balance + entropy
    decoder input = latent + (quantized - latent).detach()

Latents of all kinds of one step are normalised and quantized as one batch where their grids are the same, so that they share statistics.
Convolutions may run in bfloat16; latents, bits, statistics and losses never do. Each kind has a critic of its own, which begins anew with
the stage. A step that is not finite leaves weights, statistics, averages and critics as they were.
Report: §2.2.1. Ours: Muon, the schedule. Letters: n items, t frames, t' latent frames, c channels, d bits, h w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Protocol

import torch
from torch import Tensor, nn

from ernie5.run.random_streams import torch_generator
from ernie5.tokenizers.adversarial import Adversary
from ernie5.tokenizers.muon import MuonWithAdamW, flat_then_linear
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.critic import ClipCritic, PictureCritic
from ernie5.tokenizers.vision.generation import to_float
from ernie5.tokenizers.vision.losses import balance_loss, commitment_loss, entropy_loss, gradient_loss, reconstruction_loss
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.perceptual import load_perceptual
from ernie5.tokenizers.vision.semantic import load_semantic

RECOUNTED = 50  # batches that give averaged weights their own statistics


class Batches(Protocol):
    """The media of a step."""

    def draw(self, step: int) -> Tensor:
        """uint8 `n t 3 h w`, a function of the step."""


class Stage:
    """`num_steps` updates of `model` and of the statistics of `quantizer`, on `sources` with `shares` of the loss. `seed`: for critics."""

    def __init__(
        self, config: VisionTokenizerConfig, model: CausalAutoencoder, quantizer: MultiscaleResidualQuantizer,
        sources: Sequence[Batches], shares: list[float], num_steps: int, seed: int = 0,
    ) -> None:
        self.config, self.sources, self.shares, self.num_steps = config, sources, shares, num_steps
        self.model, self.quantizer = model.to(config.device), quantizer.to(config.device)
        model.latent_norm.momentum = quantizer.levels.momentum = config.momentum
        self.parts = nn.ModuleDict({"model": model, "quantizer": quantizer})
        perceptual = load_perceptual(config.perceptual)
        self.perceptual = perceptual.to(config.device) if perceptual else None
        self.adversaries: list[Adversary] = []
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_generator(seed, "vision critics", num_steps, len(sources)).initial_seed())
            self.semantic = load_semantic(config.semantic, config.bits, config.device)
            if config.adversarial.weight:
                kinds = [PictureCritic, ClipCritic][:len(sources)]
                self.adversaries = [Adversary(kind(config.adversarial.channels).to(config.device), config.adversarial) for kind in kinds]
                for adversary in self.adversaries:
                    adversary.to(config.device)
        if config.average:
            self.parts["average"] = deepcopy(model).requires_grad_(False)
        learning = [*model.parameters()]
        if self.semantic:
            self.parts["semantic"] = self.semantic
            learning += self.semantic.parameters()
        self.learning = learning
        self.optimizer = MuonWithAdamW(
            learning, matrix_lr=config.matrix_lr, vector_lr=config.vector_lr, weight_decay=config.weight_decay
        )

    def step(self, step: int) -> dict[str, float]:
        config = self.config
        self.model.train()
        statistics = {name: buffer.clone() for name, buffer in self.parts.named_buffers()}  # the forward pass moves them
        self.optimizer.zero_grad()
        losses = []
        for number in range(config.accumulate):
            media = self._media(step * config.accumulate + number)
            loss, decoded = self.loss(media, self.shares, step)
            (loss / config.accumulate).backward()
            losses.append(loss.detach())
        mean = torch.stack(losses).mean()
        norm = nn.utils.clip_grad_norm_(self.learning, config.max_grad_norm)
        numbers = {"grad_norm": norm.item()}
        if torch.isfinite(norm) and torch.isfinite(mean):
            self.optimizer.step(flat_then_linear(step, self.num_steps, warmup=config.warmup_steps, flat=config.flat_share))
            self._average(step)
            for i, (adversary, real, fake) in enumerate(zip(self.adversaries, media, decoded, strict=False)):  # of the last batch
                numbers |= {f"{name}_{i}": value for name, value in adversary.learn(real, fake, step).items()}
        else:
            for name, buffer in self.parts.named_buffers():
                buffer.copy_(statistics[name])
            mean = mean * torch.nan
        self.model.eval()
        return {"loss": mean.item(), **numbers}

    def finish(self, more: Batches | None = None) -> None:
        """After the last step: the averaged weights, if they are kept, with statistics that belong to them; then the bits' statistics of
        grids that were not trained on (`more`)."""
        first = self.num_steps * self.config.accumulate
        if self.config.average:
            self.model.load_state_dict(self.parts["average"].state_dict())
            self.model.train()
            self._recount(self.sources, first)
            self.model.eval()
        if more:
            self._recount([more], first)

    @torch.no_grad()
    def _recount(self, sources: Sequence[Batches], first: int) -> None:
        for number in range(first, first + RECOUNTED):
            for source in sources:
                pixels = to_float(source.draw(number).to(self.config.device))
                self.quantizer.quantize(self._latent(self._features(pixels).flatten(0, 1)))

    def tensors(self) -> dict[str, Tensor]:
        tensors = {**self.parts.state_dict(), **self.optimizer.tensors()}
        for i, adversary in enumerate(self.adversaries):
            tensors |= {f"adversary.{i}.{name}": value for name, value in adversary.tensors().items()}
        return tensors

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.parts.load_state_dict({name: tensors[name] for name in self.parts.state_dict()})
        self.optimizer.load(tensors)
        for i, adversary in enumerate(self.adversaries):
            start = f"adversary.{i}."
            adversary.load({name.removeprefix(start): value for name, value in tensors.items() if name.startswith(start)})

    def _media(self, draw: int) -> list[Tensor]:
        return [to_float(source.draw(draw).to(self.config.device)) for source in self.sources]

    def _autocast(self) -> torch.autocast:
        return torch.autocast(torch.device(self.config.device).type, torch.bfloat16, enabled=self.config.precision == "bfloat16")

    def _features(self, pixels: Tensor) -> Tensor:
        with self._autocast():
            return self.model.features(pixels)

    def _latent(self, frames: Tensor) -> Tensor:
        """features `n c h' w'` -> latent `n d h' w'`."""
        with self._autocast():
            return self.model.latent(frames[:, None])[:, 0]

    def loss(self, media: list[Tensor], shares: list[float], step: int, first: int = 0) -> tuple[Tensor, list[Tensor]]:
        """The loss of batches `n t c h w` (one per kind of media), each with its share, and what was decoded. Moves the statistics.
        `first`: the number of the first kind.
        """
        if len({pixels.shape[-2:] for pixels in media}) > 1:  # different latent grids cannot be one batch
            parts = [self.loss([m], [s], step, i) for i, (m, s) in enumerate(zip(media, shares, strict=True))]
            return torch.stack([loss for loss, _ in parts]).sum(), [decoded[0] for _, decoded in parts]
        config = self.config
        features = [self._features(pixels) for pixels in media]                               # n t' c h' w'
        frames = [f.flatten(0, 1) for f in features]                                          # (n t') c h' w'
        sizes = [len(x) for x in frames]
        latent = self._latent(torch.cat(frames))                                              # all (n t'), d h' w'
        total, soft = self.quantizer.quantize(latent)
        read = latent + (total - latent).detach()
        loss = sum(shares) * (config.commitment * commitment_loss(latent, total) + config.balance * balance_loss(soft, sizes))
        if config.entropy:
            loss = loss + sum(shares) * config.entropy * entropy_loss(soft, sizes, config.entropy_batch)
        decoded = []
        for i, (pixels, f, part, share) in enumerate(zip(media, features, read.split(sizes), shares, strict=True)):
            with self._autocast():
                output = self.model.decode(part.unflatten(0, f.shape[:2]))
            output = output.float()
            decoded.append(output.detach())
            loss = loss + share * self._distance(output, pixels, part, step, first + i)
        return loss, decoded

    def _distance(self, output: Tensor, pixels: Tensor, total: Tensor, step: int, kind: int) -> Tensor:
        """What one kind of media adds: output and pixels `n t 3 h w`, total `(n t') d h' w'`."""
        config = self.config
        loss = reconstruction_loss(output, pixels, foreground=config.foreground, squared=config.squared)
        loss = loss + config.gradient * gradient_loss(output, pixels)
        if self.perceptual:
            loss = loss + config.perceptual.weight * self.perceptual(output.flatten(0, 1), pixels.flatten(0, 1))
        if self.adversaries:
            last = self.model.decoder[-1].weight
            assert isinstance(last, Tensor)
            loss = loss + self.adversaries[kind].decoder_loss(pixels, output, loss, last, step)
        if self.semantic:  # the last frame of a chunk is what a latent frame stands for
            seen = pixels[:, ::self.model.config.temporal_stride].flatten(0, 1)
            loss = loss + config.semantic.weight * self.semantic(total, seen)
        return loss

    @torch.no_grad()
    def _average(self, step: int) -> None:
        if self.config.average:
            decay = min(self.config.average, (1 + step) / (10 + step))  # the start weights are soon forgotten
            average = self.parts["average"]
            for weight, new in zip(average.parameters(), self.model.parameters(), strict=True):
                weight.lerp_(new, 1 - decay)
            for statistic, now in zip(average.buffers(), self.model.buffers(), strict=True):
                statistic.copy_(now)
