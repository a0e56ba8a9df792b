"""The contract of every tokenizer: what it turns media into, and back.

`encode` gives what may be stored: text ids, audio codes, and for vision the latent *before* quantization, because history
corruption quantizes again (decision 9). Bits come from the quantizer that a vision tokenizer carries.
Letters: t frames, d bits, Q codebooks, n samples or ids; h' w' the latent grid.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from torch import Tensor

from ernie5.sequence import Modality


@dataclass(frozen=True)
class VisionCodes:
    """What is kept of one image or clip."""

    latent: Tensor    # t' d h' w'   float32, before quantization; t' = 1 + (t - 1) / temporal stride
    features: Tensor  # t c h' w'    float32, the encoder's last feature map of every frame taken as an image

    @property
    def shape(self) -> tuple[int, ...]:
        """t' d h' w'."""
        return tuple(self.latent.shape)


@dataclass(frozen=True)
class VisionBits:
    """What may be kept instead where history is never corrupted: the bits of all scales, one after the other."""

    bits: Tensor      # t' N d       bool, N = positions of all scales
    features: Tensor  # t c h' w'    as above

    @property
    def shape(self) -> tuple[int, ...]:
        """t' d h' w' of the latent that they were."""
        return (self.bits.shape[0], self.bits.shape[2], *self.features.shape[-2:])


@dataclass(frozen=True)
class ScaleCodes:
    """The multi-scale code of n frames: per scale k the bits to predict and the map that predicts them."""

    bits: tuple[Tensor, ...]   # K x [n N_k d] float 0 / 1, targets
    reads: tuple[Tensor, ...]  # K - 1 x [n N_k d] for k = 2..K: feature accumulated so far, resized to scale k
    total: Tensor              # n d h' w', sum over all scales (what the decoder gets)
    pooled: Tensor             # n 1 d, the total resized to 1 x 1: what the next frame's first scale reads


class Quantizer(Protocol):
    """The multi-scale bit-wise residual quantizer (a module without gradients at backbone time)."""

    bits: int

    def scales(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(h_k, w_k) of every scale for a latent grid; the first is 1 x 1, the last the grid itself."""

    def encode(self, latent: Tensor, flips: tuple[Tensor, ...] | None = None) -> ScaleCodes:
        """latent `n d h w` -> codes. `flips`: K bool masks `n N_k d`; a flipped bit enters the history, not the target."""

    def add(self, total: Tensor, bits: Tensor, scale: int) -> Tensor:
        """Add the values of one scale's bits `n N_k d` to the running feature `n d h w`."""

    def read(self, total: Tensor, scale: int) -> Tensor:
        """The running feature resized to `scale` as positions: `n N_k d`."""


@runtime_checkable
class Tokenizer(Protocol):
    """One modality's tokenizer. Results never depend on what else is encoded beside a medium."""

    modality: Modality

    @property
    def fingerprint(self) -> str:
        """Hexadecimal digits over settings and weights: equal fingerprints, equal codes."""

    def encode(self, media): ...

    def decode(self, codes): ...


class TextTokenizer(Tokenizer, Protocol):
    """`encode(str) -> ids n` (int64, no special tokens), `decode(ids) -> str`; ids below NUM_SPECIAL_TOKENS are control tokens.

    `data.text_dropout` also needs `encode(str, dropout: float, seed: int)`, the same in every process.
    """

    vocab_size: int


class VisionTokenizer(Tokenizer, Protocol):
    """`encode(uint8 t c h w) -> VisionCodes`; `decode(total t' d h' w') -> uint8 t c h w` (`total` summed over scales)."""

    quantizer: Quantizer
    stride: int            # pixels per latent cell
    temporal_stride: int   # frames per latent frame after the first
    feature_dim: int       # c of VisionCodes.features


class AudioTokenizer(Tokenizer, Protocol):
    """`encode(float n) -> codes f Q` (int64), `decode(codes) -> float n`."""

    num_codebooks: int
    codebook_size: int
    sample_rate_hz: int
    frame_rate_hz: float
