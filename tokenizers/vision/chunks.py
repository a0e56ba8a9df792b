"""Encoding and decoding of clips piece by piece: the offline result, in memory that a chunk bounds.

    a causal convolution of kernel k over time keeps the last frames that its next output needs: k - 1 at first (zeros), then what is left
    encode   1 + 4 a frames, then 4 b at a time -> a + 1, then b latent frames             decode: any number of latent frames at a time

Pieces of any length come in; frames wait until they fill a chunk of the temporal stride. Everything else works on single frames.
Report: §2.2.1 (causal 3-D tokenizer). Ours: all of it.
Letters: n clips, t frames, t' latent frames, c channels, d bits, h w pixels or cells.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ernie5.tokenizers.vision.causal_autoencoder import ResidualBlock
from ernie5.tokenizers.vision.causal_convolution import CausalConv, CausalUp, ShortDown, ShortUp


class CausalStream:
    """`network(x)` for `x` that comes in pieces `n t c h w`; what it returns, put together, is what the network gives for the whole."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.begun = False
        self._kept: dict[CausalConv, Tensor] = {}  # n c t h w: the frames that the next output still needs

    def __call__(self, x: Tensor) -> Tensor:
        y = self._run(self.network, x)
        self.begun = True
        return y

    def _run(self, module: nn.Module, x: Tensor) -> Tensor:
        match module:
            case nn.Sequential():
                for part in module:
                    x = self._run(part, x)
                return x
            case ResidualBlock():
                return x + self._run(module.layers, x)
            case ShortDown():
                time = module.conv.time_stride  # the last frame of every chunk; the first frame is a chunk of its own
                return self._run(module.conv, x) + module.plain(x[:, time - 1 if self.begun else 0::time])
            case ShortUp():
                return self._run(module.up, x) + self._from(module.plain(x), module.up.time)
            case CausalUp():
                y = rearrange(self._run(module.conv, x), "n t (k c a b) h w -> n (t k) c (h a) (w b)", k=module.time, a=2, b=2)
                return self._from(y, module.time)
            case CausalConv():
                return self._convolve(module, x)
        return module(x)

    def _from(self, y: Tensor, time: int) -> Tensor:
        """The first latent frame stands for one frame alone."""
        return y if self.begun else y[:, time - 1:]

    def _convolve(self, conv: CausalConv, x: Tensor) -> Tensor:
        kernel = conv.weight.shape[2]
        if kernel == 1 and conv.time_stride == 1:
            return conv(x)
        x = rearrange(x, "n t c h w -> n c t h w")
        x = torch.cat([self._kept[conv], x], 2) if conv in self._kept else F.pad(x, (0, 0, 0, 0, kernel - 1, 0))
        outputs = (x.shape[2] - kernel) // conv.time_stride + 1
        self._kept[conv] = x[:, :, outputs * conv.time_stride:].clone()
        strides = (conv.time_stride, conv.stride, conv.stride)
        y = F.conv3d(x, conv.weight, conv.bias, strides, (0, conv.padding, conv.padding))
        return rearrange(y, "n c t h w -> n t c h w")


def whole_chunks(pieces: Iterable[Tensor], stride: int) -> Iterator[Tensor]:
    """Pieces `t c h w` (or single frames `c h w`) -> the same frames as 1 + a `stride`, then b `stride` at a time. ValueError when the last
    chunk is not full."""
    waiting: list[Tensor] = []
    first, count, total = True, 0, 0
    for piece in pieces:
        piece = piece[None] if piece.ndim == 3 else piece
        if waiting and piece.shape[1:] != waiting[0].shape[1:]:
            raise ValueError(f"frames of {tuple(piece.shape[1:])} follow frames of {tuple(waiting[0].shape[1:])}; a clip has one size")
        waiting.append(piece)
        count, total = count + len(piece), total + len(piece)
        rest = (count - first) % stride
        if count - rest >= 1 and (first or count >= stride):
            frames = torch.cat(waiting)
            yield frames[:count - rest]
            waiting, count, first = [frames[count - rest:]], rest, False
    if count or first:
        raise ValueError(f"the clip has {total} frames, which must be 1 + a multiple of temporal_stride = {stride}; cut or fill it up")
