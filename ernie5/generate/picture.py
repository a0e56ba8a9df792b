"""Images and clips: scale by scale inside a frame, frame after frame, and the model says when a clip ends.

    BOI/BOV -> bits of scale 1 | map of scale k -> bits of scale k ... | pooled sum -> NEXT_FRAME or EOV, and the next frame's scale 1

Where fewer bits than the tokenizer's are on (`session.widths`), the others stay 0 in the sum that is read and decoded.
Report: §2.2.3. Ours: decision 5. Letters: B rows, T frames, K scales, N positions of a scale, d bits, h w latent grid.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ernie5.data_pipelines.group_vision import pooled_coords, scale_block
from ernie5.generate.session import Fed, Session
from ernie5.generate.text import text_block
from ernie5.model.text_head import restrict
from ernie5.sequence import Choice, Kind, Modality, TokenGroups
from ernie5.tokenizers.base import Quantizer
from ernie5.tokenizers.special_tokens import SpecialToken
from ernie5.tokenizers.vision.bit_series import first_bits
from ernie5.uni_rope import grid_coords


def generate_picture(session: Session, modality: Modality, quantizer: Quantizer, grid: tuple[int, int], max_frames: int) -> list[Tensor]:
    """Append one image or clip to every row; returns what the decoder takes, per row `T d h w` (T = 1 for an image)."""
    rows = len(session.index)
    clip = modality is Modality.VIDEO
    begin = SpecialToken.BOV if clip else SpecialToken.BOI
    fed = session.feed([[text_block(session, row, [begin])] for row in range(rows)])
    painter = _Painter(session, quantizer, grid, Kind.VIDEO_GENERATE if clip else Kind.IMAGE_GENERATE)
    frames: list[list[Tensor]] = [[] for _ in range(rows)]
    live = list(range(rows))
    for frame in range(max_frames if clip else 1):
        totals = painter.paint(fed, live, frame)
        for row, total in zip(live, totals, strict=True):
            frames[row].append(total)
        fed = session.feed(painter.rows_of(live, [painter.pooled(row, frame, total) for row, total in zip(live, totals, strict=True)]))
        if clip:
            choice = torch.full((len(live),), int(Choice.NEXT_OR_END), device=session.device)
            logits = restrict(session.model.heads.text(fed.last(live)[:, 0]), choice)
            goes_on = session.sampling.classes(logits, session.random) == int(SpecialToken.NEXT_FRAME)
            live = [row for row, more in zip(live, goes_on.tolist(), strict=True) if more]
        if not live:
            break
    end = SpecialToken.EOV if clip else SpecialToken.EOI
    session.feed([[text_block(session, row, [end])] for row in range(rows)])
    return [torch.stack(row) for row in frames]


class _Painter:
    """Builds the blocks of one picture in every row; coordinates start after the begin token."""

    def __init__(self, session: Session, quantizer: Quantizer, grid: tuple[int, int], kind: Kind) -> None:
        self.session, self.quantizer, self.grid, self.kind = session, quantizer, grid, kind
        self.scales = quantizer.scales(*grid)
        self.origin = list(session.index)
        self.segment = [number - 1 for number in session.segment]  # the begin token has opened the segment

    def paint(self, fed: Fed, live: list[int], frame: int) -> Tensor:
        """All scales of one frame of the live rows -> total `live d h w`. `fed` ends with the position that predicts scale 1."""
        bits, total = self.session.widths.bits, torch.zeros(len(live), self.quantizer.bits, *self.grid)
        for k, (height, width) in enumerate(self.scales):
            if k > 0:
                reads = self.quantizer.read(total, k)  # live N d
                coords = [grid_coords(self.origin[row], frame, self.grid, self.scales[k]) for row in live]
                blocks = [
                    scale_block(self.segment[row], self.kind, place, frame, read, k)
                    for row, place, read in zip(live, coords, reads, strict=True)
                ]
                fed = self.session.feed(self.rows_of(live, blocks))
            logits = self.session.model.heads.vision(fed.last(live, height * width))  # live N d
            chosen = self.session.sampling.bits(logits[..., :bits], self.session.random).cpu()
            total = first_bits(self.quantizer.add(total, F.pad(chosen, (0, self.quantizer.bits - bits)), k), bits)
        return total

    def pooled(self, row: int, frame: int, total: Tensor) -> TokenGroups:
        read = self.quantizer.read(total[None], 0)[0]
        return scale_block(self.segment[row], self.kind, pooled_coords(self.origin[row], frame, self.grid), frame + 1, read, 0)

    def rows_of(self, live: list[int], blocks: list[TokenGroups]) -> list[list[TokenGroups]]:
        """Blocks of the live rows, nothing for the others."""
        by_row = dict(zip(live, blocks, strict=True))
        return [[by_row[row]] if row in by_row else [] for row in range(len(self.session.index))]
