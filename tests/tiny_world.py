"""Small real parts for tests of the backbone: a quantizer, documents of all modalities, a model. Nothing here is trained."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ernie5.data_pipelines.collate import PackedSample, Widths, collate
from ernie5.data_pipelines.grouping import Coded, Grouping
from ernie5.data_pipelines.history import HistoryConfig
from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.unified_transformer import UnifiedTransformer
from ernie5.sequence import Modality, PackedSequence, Role
from ernie5.tokenizers.base import VisionCodes
from ernie5.tokenizers.vision.multiscale_residual import MultiscaleResidualQuantizer
from ernie5.tokenizers.vision.understanding import UnderstandingConfig, UnderstandingEncoder

BITS, CODEBOOKS, CODEBOOK_SIZE, FEATURES, TEXT = 8, 3, 32, 6, 64
VOCABULARY = Vocabulary(TEXT, BITS, CODEBOOKS, CODEBOOK_SIZE, FEATURES)
WIDTHS = Widths(BITS, CODEBOOKS, FEATURES, patch=8)
SMALL = ModelConfig(dim=32, num_layers=4, num_heads=2, num_kv_heads=1, num_experts=4, top_k=2, expert_dim=16, rope_base=1e3)


def small_model(config: ModelConfig = SMALL, seed: int = 0, random_heads: bool = True) -> UnifiedTransformer:
    """A model whose heads are not zero, so that every path matters."""
    torch.manual_seed(seed)
    encoder = UnderstandingEncoder(UnderstandingConfig(dim=16, num_heads=2, num_layers=1), FEATURES, config.dim)
    model = UnifiedTransformer(config, VOCABULARY, encoder, seed)
    if random_heads:
        for parameter in model.heads.parameters():
            torch.nn.init.normal_(parameter, std=0.2)
    return model


def quantizer() -> MultiscaleResidualQuantizer:
    return MultiscaleResidualQuantizer(num_scales=3, bits=BITS).eval()


def grouping(history: HistoryConfig | None = None) -> Grouping:
    return Grouping(quantizer(), CODEBOOKS, CODEBOOK_SIZE, history or HistoryConfig(flip_max=0.0, frame_drop=0.0))


def text(random: np.random.Generator, length: int = 5) -> Coded:
    return Coded(Modality.TEXT, Role.GENERATE, torch.from_numpy(random.integers(12, TEXT, length)))


def picture(random: np.random.Generator, role: Role, frames: int = 1) -> Coded:
    """frames = latent frames; an image when 1, else a clip of 1 + 4 (frames - 1) pictures."""
    modality = Modality.IMAGE if frames == 1 else Modality.VIDEO
    shown = 1 + 4 * (frames - 1)
    draw = lambda *shape: torch.from_numpy(random.standard_normal(shape, dtype=np.float32))  # noqa: E731
    pixels = torch.from_numpy(random.integers(0, 256, (shown, 3, 32, 32), dtype=np.uint8))
    return Coded(modality, role, VisionCodes(draw(frames, BITS, 4, 4), draw(shown, FEATURES, 4, 4)), pixels)


def sound(random: np.random.Generator, role: Role, frames: int = 4) -> Coded:
    return Coded(Modality.AUDIO, role, torch.from_numpy(random.integers(0, CODEBOOK_SIZE, (frames, CODEBOOKS))))


def documents(seed: int = 0) -> dict[str, list[Coded]]:
    """One document of every kind."""
    random = np.random.default_rng(seed)
    read, make = Role.UNDERSTAND, Role.GENERATE
    return {
        "text": [text(random, 9)],
        "text_to_image": [text(random), picture(random, make)],
        "image_to_text": [picture(random, read), text(random)],
        "text_to_video": [text(random), picture(random, make, frames=3)],
        "video_to_text": [picture(random, read, frames=3), text(random)],
        "text_to_audio": [text(random), sound(random, make)],
        "audio_to_text": [sound(random, read), text(random)],
        "mixed": [
            text(random), picture(random, make), text(random, 3), sound(random, read), picture(random, make, frames=2), sound(random, make)
        ],
    }


def packed_sample(name: str, seed: int = 0, history: HistoryConfig | None = None) -> PackedSample:
    return PackedSample(name, grouping(history).document(documents(seed)[name], np.random.default_rng(seed)))


def batch(
    names: list[list[str]], length: int = 160, seed: int = 0, history: HistoryConfig | None = None, bits: int = BITS
) -> PackedSequence:
    """Rows of named documents, with the first `bits` bits on."""
    return collate([[packed_sample(n, seed, history) for n in row] for row in names], length, replace(WIDTHS, bits=bits))
