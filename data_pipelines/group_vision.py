"""Token groups of pictures and clips: predicted scale by scale, or read as merged tokens.

    generated frame t:   [BOI/BOV or pooled sum of frame t-1] -> scale 1;   map of scale k -> bits of scale k,  k = 2..K
    after the last one:  pooled sum -> EOV (choice), or nothing for an image: its end is certain

Report: §2.2.2-2.2.3, Fig. 2. Ours: decisions 5, 7, 10, 12. Letters: T frames, K scales, N positions, d bits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from ernie5.data_pipelines.history import HistoryConfig, draw_flips, draw_kept, flip_rates
from ernie5.data_pipelines.scale_codes import scale_codes
from ernie5.sequence import Choice, Kind, Modality, TokenGroups, UnderstandRead
from ernie5.tokenizers.base import Quantizer, ScaleCodes, VisionBits, VisionCodes
from ernie5.tokenizers.special_tokens import SpecialToken
from ernie5.uni_rope import grid_coords

if TYPE_CHECKING:
    from ernie5.data_pipelines.grouping import Coded


def scale_weights(scales: tuple[tuple[int, int], ...]) -> tuple[float, ...]:
    """sqrt(last area / area), averaged over the tokens of a frame to 1 (decision 10: Infinity's public rule)."""
    areas = [h * w for h, w in scales]
    raw = [(areas[-1] / area) ** 0.5 for area in areas]
    mean = sum(r * a for r, a in zip(raw, areas, strict=True)) / sum(areas)
    return tuple(r / mean for r in raw)


def picture_groups(
    codes: VisionCodes | VisionBits, modality: Modality, segment: int, origin: int, quantizer: Quantizer, history: HistoryConfig,
    random: np.random.Generator,
) -> list[TokenGroups]:
    """A generated image or clip. The first block has no position of its own: it is the target of the begin token."""
    num_frames, bits, height, width = codes.shape
    scales = quantizer.scales(height, width)
    flips = None
    if history.flip_max > 0:
        flips = draw_flips(scales, bits, flip_rates(num_frames, len(scales), random, history), random)
    kept = draw_kept(num_frames, random, history) if modality is Modality.VIDEO and history.frame_drop > 0 else [True] * num_frames
    coded = scale_codes(quantizer, codes, flips)
    weights = scale_weights(scales)
    kind = Kind.VIDEO_GENERATE if modality is Modality.VIDEO else Kind.IMAGE_GENERATE
    blocks = [begin_target(coded.bits[0][0], weights[0], segment)]
    for frame in range(num_frames):
        for k in range(1, len(scales)):
            read, target = coded.reads[k - 1][frame], coded.bits[k][frame]
            coords = grid_coords(origin, frame, (height, width), scales[k])
            blocks.append(scale_block(segment, kind, coords, frame, read, k, kept[frame], target, weights[k]))
        blocks.append(_pooled_block(coded, frame, num_frames, modality, segment, kind, origin, (height, width), kept, weights[0]))
    return blocks


def begin_target(bits: Tensor, weight: float, segment: int) -> TokenGroups:
    """An empty block that carries the first scale's bits `1 d` for the position before it."""
    nothing = torch.zeros(0, dtype=torch.int64)
    return TokenGroups(segment, Kind.TEXT, nothing, torch.zeros(0, 3), vision_target=bits, vision_weight=weight)


def scale_block(
    segment: int, kind: Kind, coords: Tensor, frame: int, read: Tensor, scale: int, kept: bool = True,
    target: Tensor | None = None, weight: float = 1.0,
) -> TokenGroups:
    """One scale of one frame: `N d` read, `N d` bits to predict; all positions are one group."""
    group = torch.zeros(len(read), dtype=torch.int64)
    return TokenGroups(
        segment, kind, group, coords, frame=frame, kept=kept, vision=read, scale=scale, vision_target=target, vision_weight=weight
    )


def pooled_coords(origin: int, frame: int, grid: tuple[int, int]) -> Tensor:
    """The pooled sum of `frame` stands at the next frame, in the centre."""
    return grid_coords(origin, frame + 1, grid, (1, 1))


def _pooled_block(
    coded: ScaleCodes, frame: int, num_frames: int, modality: Modality, segment: int, kind: Kind, origin: int,
    grid: tuple[int, int], kept: list[bool], weight: float,
) -> TokenGroups:
    last = frame + 1 == num_frames
    goes_on = None
    if modality is Modality.VIDEO:
        goes_on = torch.tensor([SpecialToken.EOV if last else SpecialToken.NEXT_FRAME])
    return TokenGroups(
        segment, kind, torch.zeros(1, dtype=torch.int64), pooled_coords(origin, frame, grid), frame=frame + 1,
        kept=True if last else kept[frame + 1], vision=coded.pooled[frame], scale=0,
        text_target=goes_on, text_weight=None if goes_on is None else torch.ones(1), choice=Choice.NEXT_OR_END,
        vision_target=None if last else coded.bits[0][frame + 1], vision_weight=weight,
    )


def understood_groups(coded: "Coded", segment: int, origin: int, merge: int, chunk_frames: int) -> list[TokenGroups]:
    """An image, or a clip in chunks of frames (the last frame repeated to fill up): one group each, no target."""
    assert coded.pixels is not None and isinstance(coded.codes, VisionCodes | VisionBits)
    pixels, features = coded.pixels, coded.codes.features
    chunk = 1 if coded.modality is Modality.IMAGE else chunk_frames
    kind = Kind.IMAGE_UNDERSTAND if coded.modality is Modality.IMAGE else Kind.VIDEO_UNDERSTAND
    missing = -len(pixels) % chunk
    if missing:
        pixels = torch.cat([pixels, pixels[-1:].expand(missing, -1, -1, -1)])
        features = torch.cat([features, features[-1:].expand(missing, -1, -1, -1)])
    height, width = (-(-side // merge) for side in features.shape[-2:])
    blocks = []
    for number, (frames, maps) in enumerate(zip(pixels.split(chunk), features.split(chunk), strict=True)):
        coords = grid_coords(origin, number, (height, width), (height, width))
        group = torch.zeros(height * width, dtype=torch.int64)
        blocks.append(TokenGroups(segment, kind, group, coords, understand=UnderstandRead(frames, maps)))
    return blocks
