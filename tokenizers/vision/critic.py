"""The critics of pictures and clips: a score for every patch.

    frames   PatchGAN: 4 x 4 convolutions of stride 2, then two of stride 1; a logit for every 70 x 70 pixels (3 levels)
    clips    the same in 3-D, halving space always and time where there is enough, beside the critic of single frames

Norms are group norms: a batch norm would let a picture's score depend on what stands beside it.
Report: §2.2.1 (adversarial loss). Source: PatchGAN (arXiv 1611.07004). Ours: the sizes; critics begin anew when the model is inflated.
Letters: n items, t frames, c channels, h w pixels in [-1, 1].
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from ernie5.tokenizers.adversarial import Judged

GROUPS = 8
SLOPE = 0.2


class PictureCritic(nn.Module):
    """`n t 3 h w` -> one map of logits, every frame as a picture."""

    def __init__(self, channels: int, levels: int = 3) -> None:
        super().__init__()
        if channels < 4 or channels % 4:
            raise ValueError(f"adversarial.channels = {channels} must be a multiple of 4, so that norms have groups; use 32 or 64")
        sizes = [3, *(channels * 2**level for level in range(levels))]
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(sizes)):
            layers.append(_layer(nn.Conv2d(inputs, outputs, 4, 2, 1), outputs if number else 0))
        layers.append(_layer(nn.Conv2d(sizes[-1], sizes[-1], 3, 1, 1), sizes[-1]))
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv2d(sizes[-1], 1, 3, 1, 1)

    def forward(self, media: Tensor) -> Judged:
        return _judged(media.flatten(0, 1), self.layers, self.score)


class ClipCritic(nn.Module):
    """`n t 3 h w` -> the logits of single frames, and those of the moving picture where there is more than one frame."""

    def __init__(self, channels: int, levels: int = 3) -> None:
        super().__init__()
        self.frames = PictureCritic(channels, levels)
        sizes = [3, *(channels * 2**level for level in range(levels))]
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(pairwise(sizes)):
            stride = (2 if number else 1, 2, 2)
            layers.append(_layer(nn.Conv3d(inputs, outputs, (3, 4, 4), stride, (1, 1, 1)), outputs if number else 0))
        self.layers = nn.ModuleList(layers)
        self.score = nn.Conv3d(sizes[-1], 1, 3, 1, 1)

    def forward(self, media: Tensor) -> Judged:
        single = self.frames(media)
        if media.shape[1] == 1:
            return single
        moving = _judged(media.transpose(1, 2), self.layers, self.score)
        return Judged(single.logits + moving.logits, single.features + moving.features)


def _layer(convolution: nn.Module, normed: int) -> nn.Sequential:
    norm = [nn.GroupNorm(min(GROUPS, normed), normed)] if normed else []
    return nn.Sequential(convolution, *norm, nn.LeakyReLU(SLOPE))


def _judged(x: Tensor, layers: nn.ModuleList, score: nn.Module) -> Judged:
    features = []
    for layer in layers:
        x = layer(x)
        features.append(x)
    return Judged([score(x)], features)
