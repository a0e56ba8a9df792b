"""Training of the vision tokenizer: pictures in 2-D first, then the inflated causal 3-D model on pictures and clips together.

    loss = reconstruction + gradient + commitment + balance,     decoder input = latent + (quantized - latent).detach()

In stage 2 the latents of the step's pictures and clips are normalised and quantized as one batch, so that both share their statistics.
Every draw is a function of (seed, step): the same arguments give the same tokenizer on the same machine and thread count.
Report: §2.2.1 (two steps, inflation). Ours: Muon, the schedule; adversarial and semantic losses are not part of this version.
Letters: n items, t frames, t' latent frames, c channels, d bits, h w pixels.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from ernie5.run.random_streams import torch_generator
from ernie5.tokenizers.fit import Saves, fit
from ernie5.tokenizers.muon import MuonWithAdamW, flat_then_linear
from ernie5.tokenizers.vision.batches import MediaBatches
from ernie5.tokenizers.vision.bit_series import draw_width, first_bits
from ernie5.tokenizers.vision.causal_autoencoder import CausalAutoencoder, inflate
from ernie5.tokenizers.vision.config import VisionTokenizerConfig
from ernie5.tokenizers.vision.generation import GenerationTokenizerConfig, VisionGenerationTokenizer, check_media, to_float
from ernie5.tokenizers.vision.losses import balance_loss, commitment_loss, gradient_loss, reconstruction_loss
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import scale_schedule

NUM_FEATURE_PICTURES = 512  # give the mean and deviation of every feature channel


def train_vision_tokenizer(
    config: VisionTokenizerConfig, images: Sequence[Tensor], clips: Sequence[Tensor], *, seed: int, title: str = "vision tokenizer",
    saves: Saves | None = None,
) -> VisionGenerationTokenizer:
    """images: uint8 `1 c h w`, clips: uint8 `t c h w`. Without images, stage 1 sees frames of clips; without clips, stage 2 is left out.

    Without either, the tokenizer is returned untrained. With `saves`, an interrupted training goes on exactly. ValueError for media that
    the strides do not divide.
    """
    for medium in (*images, *clips):
        check_media(medium, config.autoencoder)
    pictures = list(images) or [frame[None] for clip in clips for frame in clip[:: config.temporal_stride]]
    sizes = GenerationTokenizerConfig(config.autoencoder, _num_scales(config, [*images, *clips]))
    with torch.random.fork_rng(devices=[]):  # layers draw their start weights from torch's global stream
        torch.manual_seed(torch_generator(seed, "vision tokenizer weights").initial_seed())
        image = CausalAutoencoder(config.autoencoder.image_model())
        tokenizer = VisionGenerationTokenizer(sizes)
    if pictures:
        batches = [MediaBatches(pictures, config.image_batch, seed=seed, purpose="vision tokenizer images")]
        stage = Stage(config, image, tokenizer.quantizer, batches, [1.0], config.image_steps)
        fit(stage, f"{title}, images", saves and saves.stage("images"))
    inflate(image, tokenizer.autoencoder)
    if clips:
        batches = [
            MediaBatches(pictures, config.video_images, seed=seed, purpose="vision tokenizer images beside clips"),
            MediaBatches(clips, config.video_clips, seed=seed, purpose="vision tokenizer clips"),
        ]
        shares = [1 - config.clip_share, config.clip_share]
        stage = Stage(config, tokenizer.autoencoder, tokenizer.quantizer, batches, shares, config.video_steps)
        fit(stage, f"{title}, clips", saves and saves.stage("clips"))
    tokenizer.eval().requires_grad_(False)
    if pictures:
        tokenizer.standardise_features(pictures[:NUM_FEATURE_PICTURES])
    return tokenizer


class Stage:
    """One stage, a `Trainee`: `num_steps` updates of `model` and of the statistics of `quantizer`."""

    def __init__(
        self, config: VisionTokenizerConfig, model: CausalAutoencoder, quantizer: MultiscaleResidualQuantizer,
        sources: list[MediaBatches], shares: list[float], num_steps: int,
    ) -> None:
        self.config, self.sources, self.shares, self.num_steps = config, sources, shares, num_steps
        self.parts = nn.ModuleDict({"model": model, "quantizer": quantizer})
        self.model, self.quantizer = model, quantizer
        self.optimizer = MuonWithAdamW(
            model.parameters(), matrix_lr=config.matrix_lr, vector_lr=config.vector_lr, weight_decay=config.weight_decay
        )

    def step(self, step: int) -> dict[str, float]:
        self.model.train()
        media = [to_float(source.draw(step)) for source in self.sources]
        statistics = {name: buffer.clone() for name, buffer in self.parts.named_buffers()}  # the forward pass moves them
        width = draw_width(self.config.bit_series, self.sources[0].seed, self.sources[0].purpose, step)
        loss = training_loss(self.config, self.model, self.quantizer, media, self.shares, width)
        self.optimizer.zero_grad()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
        if torch.isfinite(norm) and torch.isfinite(loss):
            self.optimizer.step(flat_then_linear(step, self.num_steps, warmup=self.config.warmup_steps, flat=self.config.flat_share))
        else:
            for name, buffer in self.parts.named_buffers():
                buffer.copy_(statistics[name])
            loss = loss * torch.nan
        self.model.eval()
        return {"loss": loss.item(), "grad_norm": norm.item()}

    def tensors(self) -> dict[str, Tensor]:
        return {**self.parts.state_dict(), **self.optimizer.tensors()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.parts.load_state_dict({name: tensors[name] for name in self.parts.state_dict()})
        self.optimizer.load(tensors)


def training_loss(
    config: VisionTokenizerConfig, model: CausalAutoencoder, quantizer: MultiscaleResidualQuantizer,
    media: list[Tensor], shares: list[float], width: int | None = None,
) -> Tensor:
    """The loss of batches `n t c h w` (one per kind of media), each with its share. Moves the quantizer's statistics. `width`: the decoder
    reads the first so many bits (bit_series.py), None = all.
    """
    if len({pixels.shape[-2:] for pixels in media}) > 1:  # different latent grids cannot be one batch
        return torch.stack([training_loss(config, model, quantizer, [m], [s], width) for m, s in zip(media, shares, strict=True)]).sum()
    features = [model.features(pixels) for pixels in media]                               # n t' c h' w'
    frames = [f.flatten(0, 1) for f in features]                                          # (n t') c h' w'
    sizes = [len(x) for x in frames]
    latent = model.latent(torch.cat(frames)[:, None])[:, 0]                               # all (n t'), d h' w'
    total, soft = quantizer.quantize(latent)
    read = first_bits(latent + (total - latent).detach(), width or config.bits)
    loss = sum(shares) * (config.commitment * commitment_loss(latent, total) + config.balance * balance_loss(soft, sizes))
    for pixels, f, part, share in zip(media, features, read.split(sizes), shares, strict=True):
        output = model.decode(part.unflatten(0, f.shape[:2]))
        error = reconstruction_loss(output, pixels, foreground=config.foreground, squared=config.squared)
        loss = loss + share * (error + config.gradient * gradient_loss(output, pixels))
    return loss


def _num_scales(config: VisionTokenizerConfig, media: Sequence[Tensor]) -> int:
    """Scales of the largest latent grid (of a 4 x 4 grid if there are no media)."""
    stride = config.autoencoder.stride
    return max((len(scale_schedule(m.shape[2] // stride, m.shape[3] // stride)) for m in media), default=len(scale_schedule(4, 4)))
