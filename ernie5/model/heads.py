"""Separate heads for text, vision and audio, on hidden states of target positions.

    text: logits over ids     vision: one logit per bit     audio level q: logits over codes and end of sound

Report: Fig. 1 (text, vision and audio heads), §2.2.3 (bit-wise prediction), Fig. 3 (one head per audio level). Ours: decision 8 (d logits).
Letters: m target positions, D width, V text ids, d bits, Q codebooks.
"""

from __future__ import annotations

from torch import Tensor, nn

from ernie5.model.config import ModelConfig, Vocabulary
from ernie5.model.text_head import TextHead


class Heads(nn.Module):
    """Maps from hidden states to logits; the hidden states arrive already normalised."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.text = TextHead(config.dim, vocabulary.text)
        self.vision = nn.Linear(config.dim, vocabulary.bits)
        self.audio_norms = nn.ModuleList(nn.RMSNorm(config.dim) for _ in range(vocabulary.num_codebooks))
        self.audio = nn.ModuleList(
            nn.Linear(config.dim, vocabulary.codebook_size + 1, bias=False) for _ in range(vocabulary.num_codebooks)
        )

    def audio_logits(self, level: int, hidden: Tensor) -> Tensor:
        """hidden `m D` read after the layer of this level -> `m codebook_size + 1`."""
        return self.audio[level](self.audio_norms[level](hidden))
