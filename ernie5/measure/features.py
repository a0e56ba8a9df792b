"""Features without weights for the Fréchet distance, for when nobody brings a network.

    picture   scattering-like: of the grey picture and two colour differences at resolutions 1, 1/2, 1/4: mean, deviation, and the mean
              size of horizontal and vertical differences                                                            3 x 3 x 4 = 36
    sound     of the log-mel energies in 16 bands over windows of a second: mean and deviation over time              2 x 16 = 32
They see colours, contrast, sharpness and timbre, not content. The distance on them is the "statistics distance", not FID and not FAD.
Ours. Letters: t frames, c channels, h w pixels, n samples, b bands.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.measure.sound_distance import magnitudes
from ernie5.tokenizers.audio.mel import log_mel, mel_filters

PICTURE_DEFAULT, SOUND_DEFAULT = "ernie5.measure.features:picture_statistics", "ernie5.measure.features:sound_statistics"
RESOLUTIONS, BANDS = 3, 16


def picture_statistics(pictures: Tensor) -> Tensor:
    """uint8 `t 3 h w` -> float `t 36`: in grey levels, each frame a row."""
    r, g, b = pictures.float().unbind(1)
    planes = torch.stack([(r + g + b) / 3, r - g, (r + g) / 2 - b], 1)                                 # t 3 h w
    found = []
    for _ in range(RESOLUTIONS):
        across, along = (_mean_size(planes.diff(dim=side)) for side in (-1, -2))
        found += [planes.mean((2, 3)), planes.std((2, 3), correction=0), across, along]
        if min(planes.shape[-2:]) >= 2:
            planes = F.avg_pool2d(planes, 2)
    return torch.cat(found, 1)


def sound_statistics(sound: Tensor, sample_rate_hz: int) -> Tensor:
    """float `n` -> float `rows 32`: each second a row, a last part of less than half a second belongs to the one before."""
    window = 4 * (sample_rate_hz // 100)                                                               # 40 ms
    energies = log_mel(magnitudes(sound, window), mel_filters(BANDS, window // 2 + 1, sample_rate_hz), 0.1)  # t b
    num_rows = max(1, round(len(sound) / sample_rate_hz))
    parts = energies.tensor_split(num_rows)
    return torch.stack([torch.cat([part.mean(0), part.std(0, correction=0)]) for part in parts])


def _mean_size(differences: Tensor) -> Tensor:
    return differences.abs().mean((2, 3)) if differences.numel() else differences.new_zeros(differences.shape[:2])
