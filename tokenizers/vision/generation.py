"""The vision tokenizer of generation: pictures and clips -> latents before quantization and CNN features; quantized sums -> pixels.

    uint8 t c h w -> [-1, 1] -> features, latent -> (quantizer, elsewhere) -> total -> pixels -> uint8

A medium is always encoded by itself, so its codes never depend on what is encoded beside it.
Report: §2.2.1. Ours: the file format (`config.json` + `model.safetensors`).
Letters: t frames, t' latent frames, c channels, d bits, h w pixels, h' w' latent grid.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ernie5.sequence import Modality
from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.vision.causal_autoencoder import AutoencoderConfig, CausalAutoencoder, fold, unfold
from ernie5.tokenizers.vision.chunks import CausalStream, whole_chunks
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.scales import ScaleConfig

FORMAT_VERSION = 1
LATER = {"stem": 2, "norm": "frame", "shortcuts": False, "attention": 0}  # sizes that format 1 did not have at first


@dataclass(frozen=True)
class GenerationTokenizerConfig:
    """The shape of a trained tokenizer."""

    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    num_scales: int = 3  # of the largest grid it was trained for
    scales: ScaleConfig = ScaleConfig()

    @property
    def plain(self) -> dict[str, Any]:
        """What `config.json` and the fingerprint say: settings that came later only where they are not the usual ones, so that a tokenizer
        keeps its fingerprint."""
        said = asdict(self)
        said["autoencoder"] = {key: value for key, value in said["autoencoder"].items() if LATER.get(key, self) != value}
        return {key: value for key, value in said.items() if key != "scales" or self.scales != ScaleConfig()}


def to_float(pixels: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [-1, 1]."""
    return pixels.float() / 127.5 - 1


def to_uint8(pixels: Tensor) -> Tensor:
    """float in [-1, 1] (clipped) -> uint8 0..255."""
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)


def check_media(media: Tensor, sizes: AutoencoderConfig) -> None:
    """ValueError unless media is uint8 `t 3 h w` that the strides divide."""
    if media.dtype != torch.uint8 or media.ndim != 4 or media.shape[1] != 3:
        raise ValueError(f"media = {media.dtype} {tuple(media.shape)} must be uint8 t 3 h w; decode to RGB, an image is one frame")
    t, _, h, w = media.shape
    if t < 1 or (t - 1) % sizes.temporal_stride:
        raise ValueError(f"media has {t} frames, which must be 1 + a multiple of temporal_stride = {sizes.temporal_stride}; cut the clip")
    if h < sizes.stride or w < sizes.stride or h % sizes.stride or w % sizes.stride:
        raise ValueError(f"media is {h} x {w} pixels, which must be multiples of the stride = {sizes.stride}; resize or crop it")


class VisionGenerationTokenizer(nn.Module):
    """Implements `tokenizers.base.VisionTokenizer`. Always in evaluation mode outside of its own training."""

    modality = Modality.IMAGE
    feature_mean: Tensor   # c 1 1
    feature_scale: Tensor  # c 1 1

    def __init__(self, config: GenerationTokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.autoencoder = CausalAutoencoder(config.autoencoder)
        self.quantizer = MultiscaleResidualQuantizer(config.num_scales, config.autoencoder.bits, config.scales)
        self.register_buffer("feature_mean", torch.zeros(self.feature_dim, 1, 1))
        self.register_buffer("feature_scale", torch.ones(self.feature_dim, 1, 1))
        self.eval()

    @property
    def stride(self) -> int:
        """Pixels per latent cell."""
        return self.config.autoencoder.stride

    @property
    def temporal_stride(self) -> int:
        """Frames per latent frame after the first."""
        return self.config.autoencoder.temporal_stride

    @property
    def feature_dim(self) -> int:
        """Channels of `VisionCodes.features`."""
        return self.config.autoencoder.channels[-1]

    @torch.no_grad()
    def encode(self, media: Tensor) -> VisionCodes:
        """uint8 `t c h w`, t = 1 + a multiple of `temporal_stride`, h and w multiples of `stride` -> latent and features."""
        check_media(media, self.config.autoencoder)
        pixels = to_float(media.to(self.feature_mean.device))
        features = self.autoencoder.features(pixels[:, None])                  # t 1 c h' w': every frame as an image
        if len(media) == 1:
            latent = self.autoencoder.latent(features)
        else:
            latent = self.autoencoder.encode(pixels[None])                     # 1 t' d h' w'
        return VisionCodes(latent=latent[0], features=(features[:, 0] - self.feature_mean) / self.feature_scale)

    @torch.no_grad()
    def encode_chunks(self, frames: Iterable[Tensor]) -> Iterator[VisionCodes]:
        """A clip in pieces, uint8 `t c h w` of any t or single frames `c h w` -> its codes in pieces, as soon as their frames are complete:
        together what `encode` gives, in memory that the longest piece bounds. An image is a clip of one frame."""
        stream = CausalStream(self.autoencoder.encoder)
        for chunk in whole_chunks(frames, self.temporal_stride):
            check_media(chunk if not stream.begun else chunk[:1], self.config.autoencoder)
            pixels = to_float(chunk.to(self.feature_mean.device))
            features = self.autoencoder.features(pixels[:, None])              # t 1 c h' w'
            latent = self.autoencoder.latent(stream(fold(pixels[None], self.config.autoencoder.stem)))       # 1 t' d h' w'
            yield VisionCodes(latent=latent[0], features=(features[:, 0] - self.feature_mean) / self.feature_scale)

    @torch.no_grad()
    def decode_chunks(self, totals: Iterable[Tensor]) -> Iterator[Tensor]:
        """The quantized sum in pieces `t' d h' w'` -> uint8 `t c h w` in pieces, together what `decode` gives."""
        stream = CausalStream(self.autoencoder.decoder)
        for total in totals:
            self._check_total(total)
            yield to_uint8(unfold(stream(total[None]), self.config.autoencoder.stem)[0])

    @torch.no_grad()
    def standardise_features(self, pictures: Sequence[Tensor]) -> None:
        """Give every feature channel mean 0 and deviation 1 over these pictures (uint8 `1 c h w`): easier to read."""
        maps = [self.autoencoder.features(to_float(picture.to(self.feature_mean.device))[:, None])[0, 0].flatten(1) for picture in pictures]
        values = torch.cat(maps, dim=1)  # c, cells of all pictures
        self.feature_mean.copy_(values.mean(1).view_as(self.feature_mean))
        self.feature_scale.copy_(values.std(1).clamp_min(1e-3).view_as(self.feature_scale))

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """The quantized sum over scales `t' d h' w'` -> uint8 `t c h w`."""
        self._check_total(codes)
        return to_uint8(self.autoencoder.decode(codes[None])[0])

    def _check_total(self, total: Tensor) -> None:
        bits = self.quantizer.bits
        if total.ndim != 4 or total.shape[1] != bits or not len(total):
            raise ValueError(f"codes have shape {tuple(total.shape)}, which must be t' {bits} h' w'; use this quantizer's sum")

    def reconstruct(self, media: Tensor) -> Tensor:
        """uint8 `t c h w` through encoder, quantizer and decoder: the best that a backbone can reach."""
        return self.decode(self.quantizer.encode(self.encode(media).latent).total)

    @property
    def fingerprint(self) -> str:
        """16 hex digits of configuration and weights: equal if and only if the codes are."""
        digest = sha256(json.dumps(self.config.plain, sort_keys=True).encode())
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path | str) -> None:
        """Write `config.json` and `model.safetensors` into `folder` (made if absent)."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in self.state_dict().items()}, folder / "model.safetensors")
        text = json.dumps({"format": FORMAT_VERSION, "kind": "vision", "fingerprint": self.fingerprint, **self.config.plain}, indent=2)
        (folder / "config.json").write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path | str) -> "VisionGenerationTokenizer":
        """The tokenizer that `save` wrote. ValueError if the files are not one, or do not belong together."""
        folder = Path(folder)
        stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if stored.get("kind") != "vision" or stored.get("format") != FORMAT_VERSION:
            raise ValueError(f"{folder / 'config.json'} is no vision tokenizer of format {FORMAT_VERSION}; train one or name its folder")
        sizes: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stored["autoencoder"].items()}
        config = GenerationTokenizerConfig(AutoencoderConfig(**sizes), stored["num_scales"], ScaleConfig(**stored.get("scales", {})))
        tokenizer = cls(config)
        tokenizer.load_state_dict(load_file(folder / "model.safetensors"))
        if tokenizer.fingerprint != stored["fingerprint"]:
            raise ValueError(f"{folder / 'model.safetensors'} does not belong to its config.json (other fingerprint); copy both again")
        return tokenizer
