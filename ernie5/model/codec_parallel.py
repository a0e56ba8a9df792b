"""Parallel audio heads, the alternative to next-codec prediction: all codes of a frame are read off the last layer at once.

    logits_q = head_q(h_L)   for q = 1..Q;   nothing is fed back, so the codes of a frame are independent given what came before it

`model.codec: parallel`. The same heads and targets as depth-wise prediction (codec_layers.py), without its feedback tables; which layers
a sub-model may drop stays the same, so that the two can be compared.
Source: MusicGen's "parallel" pattern (arXiv 2306.05284). Report: §2.3.2 has each level read after its own layer instead.
Letters: B rows, S positions, m positions that predict a codec frame, D width, Q codebooks.
"""

from __future__ import annotations

from torch import Tensor, nn

from ernie5.model.config import ModelConfig, Vocabulary


class ParallelCodes(nn.Module):
    """Offers what `CodecFeedback` does; it has no weights."""

    def __init__(self, config: ModelConfig, vocabulary: Vocabulary) -> None:
        super().__init__()
        self.last_layer, self.num_codebooks = config.num_layers - 1, vocabulary.num_codebooks
        self.tables = nn.ModuleList()  # of codes fed back: none

    def levels(self, layer: int) -> range:
        """The code levels read after this layer: all after the last, none below."""
        return range(self.num_codebooks if layer == self.last_layer else 0)

    def forward(self, x: Tensor, positions: Tensor, level: int, codes: Tensor) -> Tensor:
        """x `B S D` as it came: a code chosen at one level is not known to the others."""
        return x
