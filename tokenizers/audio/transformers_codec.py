"""Other people's codecs as our audio tokenizer: Mimi, EnCodec or DAC weights in a local folder, run by `transformers`.

    tokenizers.parts.audio: {part: "ernie5.tokenizers.audio.transformers_codec:TransformersCodec", folder: PATH}
`ernie5_codec.json` in that folder may bind the number of levels, {"num_codebooks": 8}: the first ones of the residual quantizer; without it
all are used. `tokenizers.audio.codec` of the recipe must name the same sample rate, and should name levels and codebook size.
Only mono codecs that keep the loudness are taken. Nothing is downloaded, and nothing but safetensors is read.
Report: silent. Letters: n samples, f codec frames, Q levels.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.sequence import Modality
from ernie5.tokenizers.audio.streams import check_codes, check_sound

LEVELS_FILE = "ernie5_codec.json"
KINDS = ("mimi", "encodec", "dac")


class TransformersCodec:
    """An `AudioTokenizer` (tokenizers/base.py) around a `transformers` model."""

    modality = Modality.AUDIO

    def __init__(self, model: Any, num_codebooks: int | None = None) -> None:
        config = model.config
        if getattr(config, "audio_channels", 1) != 1 or getattr(config, "normalize", False) or getattr(config, "chunk_length_s", None):
            raise ValueError(f"the {config.model_type} codec takes stereo, normalises loudness or works in chunks, which codes alone "
                             "cannot carry; use a mono one, such as the 24 kHz EnCodec")
        self.model, self.kind = model.eval().requires_grad_(False), config.model_type
        self.hop_samples = int(config.frame_size if self.kind == "mimi" else config.hop_length)
        self.sample_rate_hz, self.codebook_size = int(config.sampling_rate), int(config.codebook_size)
        self.frame_rate_hz = self.sample_rate_hz / self.hop_samples
        most = int(config.n_codebooks if self.kind == "dac" else config.num_quantizers)
        self.num_codebooks = most if num_codebooks is None else num_codebooks
        if not 1 <= self.num_codebooks <= most:
            raise ValueError(f"num_codebooks = {num_codebooks} must be from 1 to {most}, the levels of this {self.kind} codec")

    @torch.no_grad()
    def encode(self, media: Tensor) -> Tensor:
        """Sound float `n` at `sample_rate_hz` -> codes int64 `f Q`, f = ceil(n / hop)."""
        check_sound(media)
        if not len(media):
            return torch.empty(0, self.num_codebooks, dtype=torch.int64)
        padded = F.pad(media.to(self.model.device, self.model.dtype), (0, -len(media) % self.hop_samples))[None, None]   # 1 1 n
        match self.kind:
            case "encodec":
                codes = self.model.encode(padded, bandwidth=self.model.config.target_bandwidths[-1]).audio_codes[0, 0]
            case _:
                codes = self.model.encode(padded).audio_codes[0]
        return codes[:self.num_codebooks, :padded.shape[-1] // self.hop_samples].T.contiguous().cpu()

    @torch.no_grad()
    def decode(self, codes: Tensor) -> Tensor:
        """Codes int64 `f q`, q <= Q -> sound float `n` in [-1, 1], n = f * hop."""
        check_codes(codes, self.num_codebooks, self.codebook_size)
        if not len(codes):
            return torch.empty(0)
        levels = codes.long().T[None].to(self.model.device)                                                             # 1 q f
        match self.kind:
            case "mimi":
                sound = self.model.decode(levels).audio_values
            case "encodec":
                sound = self.model.decode(levels[None], [None]).audio_values
            case _:
                sound = self.model.decode(audio_codes=levels).audio_values
        length = len(codes) * self.hop_samples
        flat = sound.flatten().float().cpu()[:length]
        return F.pad(flat, (0, length - len(flat))).clamp(-1, 1)

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits over configuration, weights and the number of levels."""
        settings = {name: x for name, x in self.model.config.to_dict().items() if name not in ("_name_or_path", "transformers_version")}
        digest = hashlib.sha256(json.dumps([settings, self.num_codebooks], sort_keys=True, default=str).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:16]

    def save(self, folder: Path | str) -> None:
        """The model as `transformers` writes it, and the number of levels."""
        self.model.save_pretrained(folder)
        (Path(folder) / LEVELS_FILE).write_text(json.dumps({"num_codebooks": self.num_codebooks}) + "\n")

    @classmethod
    def load(cls, folder: Path | str) -> TransformersCodec:
        """From a folder with `config.json` and safetensors. ValueError where it is something else or `transformers` is not installed."""
        file = Path(folder) / "config.json"
        if not file.is_file():
            raise ValueError(f"tokenizers.parts.audio.folder = {str(folder)!r} must hold config.json and model.safetensors of a Mimi, "
                             "EnCodec or DAC; download one there")
        kind = json.loads(file.read_text()).get("model_type")
        if kind not in KINDS:
            raise ValueError(f"{file}: model_type = {kind!r} must be one of {', '.join(KINDS)}")
        try:
            from transformers import AutoModel
        except ImportError as error:
            raise ValueError(f"the {kind} codec in {str(folder)!r} needs the package transformers; pip install transformers") from error
        levels = Path(folder) / LEVELS_FILE
        bound = json.loads(levels.read_text())["num_codebooks"] if levels.is_file() else None
        return cls(AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True), bound)
