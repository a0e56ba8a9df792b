"""The audio tokenizer: a waveform as Q codes per 80 ms frame, coarse to fine, and back.

    encode   sound, padded to whole frames -> compressed spectra -> latents -> residual quantization -> codes f Q
    decode   codes -> sum of their vectors -> predicted magnitudes -> phase from the magnitudes -> sound
Saved as `config.json` + `weights.safetensors`; `fingerprint` names exactly these two.
Report: §2.3.1 (RVQ at 12.5 Hz, code 1 distilled). Ours: sizes (decision 14), the autoencoder.
Letters: n samples, f codec frames, Q levels.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.residual_quantizer import ResidualQuantizer
from ernie5.tokenizers.audio.spectrogram import Spectrogram
from ernie5.tokenizers.audio.streams import check_codes, check_sound
from ernie5.tokenizers.audio.waveform_autoencoder import WaveformAutoencoder

CONFIG_FILE, WEIGHTS_FILE = "config.json", "weights.safetensors"


@dataclass(frozen=True)
class AudioCodecConfig:
    """What a codec is; the defaults suit the demo world on a CPU."""

    num_codebooks: int = 3
    codebook_size: int = 256
    sample_rate_hz: int = 16_000
    hop_samples: int = 1280       # of one codec frame: 12.5 Hz
    steps_per_frame: int = 4      # short-time spectra in one codec frame
    fft_size: int = 1024
    floor: float = 0.5            # magnitudes far below cost nothing; a full-scale sine has fft_size / 4
    latent_dim: int = 16
    dim: int = 96                 # width per short frame
    frame_dim: int = 192          # width per codec frame
    num_blocks: int = 1
    phase_iterations: int = 8

    def __post_init__(self) -> None:
        for name in ("num_codebooks", "codebook_size", "sample_rate_hz", "hop_samples", "steps_per_frame", "latent_dim", "dim",
                     "frame_dim"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.hop_samples % self.steps_per_frame:
            raise ValueError(f"steps_per_frame = {self.steps_per_frame} must divide hop_samples = {self.hop_samples}; use 4 or 5")
        if self.fft_size % 2 or self.fft_size < 2 * self.hop_samples // self.steps_per_frame:
            raise ValueError(f"fft_size = {self.fft_size} must be even and at least twice hop_samples / steps_per_frame = "
                             f"{self.hop_samples // self.steps_per_frame}, so that windows overlap; use 1024 with 4 steps of 320")
        if self.floor <= 0:
            raise ValueError(f"floor = {self.floor} must be above 0; use 0.1 for quiet recordings, 0.5 for clean ones")
        if min(self.num_blocks, self.phase_iterations) < 0:
            raise ValueError(f"num_blocks = {self.num_blocks} and phase_iterations = {self.phase_iterations} must not be negative")


class AudioCodec(nn.Module):
    """An `AudioTokenizer` (tokenizers/base.py)."""

    modality = Modality.AUDIO

    def __init__(self, config: AudioCodecConfig) -> None:
        super().__init__()
        self.config = config
        self.num_codebooks, self.codebook_size = config.num_codebooks, config.codebook_size
        self.sample_rate_hz, self.frame_rate_hz = config.sample_rate_hz, config.sample_rate_hz / config.hop_samples
        spectrogram = Spectrogram(config.fft_size, config.hop_samples // config.steps_per_frame, config.floor)
        self.autoencoder = WaveformAutoencoder(
            spectrogram, config.steps_per_frame, config.latent_dim, config.dim, config.frame_dim, config.num_blocks)
        self.quantizer = ResidualQuantizer(config.num_codebooks, config.codebook_size, config.latent_dim)

    @torch.no_grad()
    def encode(self, media: Tensor) -> Tensor:
        """Sound float `n` at `sample_rate_hz` -> codes int64 `f Q`, f = ceil(n / hop_samples)."""
        check_sound(media)
        if not len(media):
            return torch.empty(0, self.num_codebooks, dtype=torch.int64)
        sounds = F.pad(media.float(), (0, -len(media) % self.config.hop_samples)).unsqueeze(0)
        return self.quantizer(self.autoencoder.encode(self.autoencoder.spectrogram.compressed(sounds))).codes[0]

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `f q` of the first q <= Q levels -> sound float `n` in [-1, 1], n = f * hop_samples."""
        check_codes(codes, self.num_codebooks, self.codebook_size)
        if not len(codes):
            return torch.empty(0)
        return self.autoencoder.sounds(self.quantizer.decode(codes.long().unsqueeze(0)), self.config.phase_iterations)[0]

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over configuration and weights."""
        return fingerprint_of(asdict(self.config), self.state_dict())

    def save(self, folder: Path | str) -> None:
        """Write both files into `folder`, made if need be."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}, folder / WEIGHTS_FILE)
        (folder / CONFIG_FILE).write_text(json.dumps(asdict(self.config), indent=2) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> AudioCodec:
        """What `save` wrote. ValueError where a file is missing or made for another version."""
        codec = cls(AudioCodecConfig(**read_config(folder, {field.name for field in fields(AudioCodecConfig)})))
        load_weights(codec, folder)
        return codec.eval()


def fingerprint_of(config: dict, weights: Mapping[str, Tensor]) -> str:
    """16 hexadecimal digits over both."""
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(weights.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def read_config(folder: Path | str, known: set[str]) -> dict:
    """What `config.json` of a saved codec says; ValueError unless both files are there and its keys are those of this version."""
    folder = Path(folder)
    for file in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / file).is_file():
            raise ValueError(f"audio codec folder {str(folder)!r} must hold {file}; train a codec first or correct the path")
    values = json.loads((folder / CONFIG_FILE).read_text())
    if set(values) != known:
        raise ValueError(f"{folder / CONFIG_FILE} has other keys than this version: {', '.join(sorted(set(values) ^ known))}; "
                         "train the codec again")
    return values


def load_weights(codec: nn.Module, folder: Path | str) -> None:
    """Those beside `config.json`; ValueError where they are of another codec."""
    try:
        codec.load_state_dict(load_file(Path(folder) / WEIGHTS_FILE))
    except RuntimeError as error:
        raise ValueError(f"{Path(folder) / WEIGHTS_FILE} does not fit {CONFIG_FILE} beside it; copy both from one codec") from error
