"""Next-codec prediction: audio codes leave the top layers coarse to fine, inside one pass.

    after layer L-Q+q:   logits_q = head_q(h);   a_q = chosen code;   h <- h + E'_q[a_q]     (q = 1..Q, no feedback after the last)

Training chooses the true codes (`TeacherForcing`); generation hands in a sampler with the same signature. The end of a sound is one
more class in every head, and feeds nothing back (decision 6). Report: §2.3.2, Fig. 3. Ours: feedback tables untied from the inputs.
Letters: m positions that predict a codec frame, D width, Q codebooks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor, nn

from ernie5.model.config import ModelConfig, Vocabulary


class ChooseCode(Protocol):
    """level q (0 = semantic), hidden `m D` -> codes `m`; `codebook_size` means end of sound."""

    def __call__(self, level: int, hidden: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class TeacherForcing:
    """The true codes: targets `m Q`."""

    targets: Tensor

    def __call__(self, level: int, hidden: Tensor) -> Tensor:
        return self.targets[:, level]


class CodecFeedback(nn.Module):
    """Adds the embedding of the code just chosen to the stream, after each of the top layers but the last."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.first_layer = config.num_layers - vocabulary.num_codebooks
        end_of_sound = vocabulary.codebook_size
        self.tables = nn.ModuleList(
            nn.Embedding(vocabulary.codebook_size + 1, config.dim, padding_idx=end_of_sound) for _ in range(vocabulary.num_codebooks - 1)
        )

    def levels(self, layer: int) -> range:
        """The code levels read after this layer: one after each of the top layers, none below."""
        return range(layer - self.first_layer, layer - self.first_layer + 1) if layer >= self.first_layer else range(0)

    def forward(self, x: Tensor, positions: Tensor, level: int, codes: Tensor) -> Tensor:
        """x `B S D`, flat positions `m`, codes `m` of `level` -> x with feedback."""
        if level == len(self.tables):
            return x  # the last code is fed back by nobody
        feedback = self.tables[level](codes).to(x.dtype)
        return x.flatten(0, 1).index_add(0, positions, feedback).view_as(x)
