"""All measures of a vision tokenizer on pictures, or on clips.

    latent -> quantizer -> bits of K scales -> sum -> pixels          rate = bits of all scales and latent frames / pixels of all frames
    after k scales       the sum of the first k alone is decoded (a medium of fewer scales counts with all of its own)
    after b bits         the first b of d bits of every scale; the other channels are 0, their mean
    speed                of `encode`, and of quantizer + `decode`, one medium at a time; the first medium warms up and is timed again
Ours. Letters: K scales, N_k cells of a scale, d bits, t frames, t' latent frames, h w pixels.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ernie5.measure.clock import seconds_now
from ernie5.measure.code_usage import ALIVE, bit_entropy, joint_usage
from ernie5.measure.media import Medium, Rejected
from ernie5.measure.scores import Row, picture_row, summary
from ernie5.run.progress import Progress
from ernie5.tokenizers.base import VisionTokenizer

WIDTHS = 8  # of the bit prefixes, at most
SHOWN = 8   # media whose prefixes are kept for the page


@dataclass
class Reconstruction:
    """A medium, what came back, and its figures."""

    name: str
    original: Tensor                   # uint8 t 3 h w
    decoded: Tensor
    bits: int
    row: Row
    scale_rows: list[Row]              # after 1, 2, .. scales
    width_rows: dict[int, Row]         # after so many bits
    after_scales: list[Tensor]         # what these look like; of the first media only


@dataclass
class VisionRun:
    """Everything that was seen of one kind of media."""

    tokenizer: VisionTokenizer
    device: str = "cpu"
    done: list[Reconstruction] = field(default_factory=list)
    bits: dict[int, list[Tensor]] = field(default_factory=dict)   # of each scale, n d
    cells: dict[int, set[tuple[int, int]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})

    def add(self, medium: Medium) -> None:
        """Measure one. ValueError when the tokenizer refuses it."""
        pixels, quantizer = medium.media, self.tokenizer.quantizer
        if not self.done:
            self._round_trip(pixels)
        decoded, codes, grid, spent = self._round_trip(pixels)
        for name, seconds in spent.items():
            self.seconds[name] += seconds
        total, after, scale_rows, used = torch.zeros_like(codes.total), [], [], 0
        for scale, bits in enumerate(codes.bits):
            total, used = quantizer.add(total, bits, scale), used + bits.numel()
            after.append(self.tokenizer.decode(total).cpu())
            scale_rows.append(picture_row(pixels, after[-1], used))
            self.bits.setdefault(scale, []).append(bits.flatten(0, 1).to("cpu", torch.uint8))
            self.cells.setdefault(scale, set()).add(quantizer.scales(*grid)[scale])
        width_rows = {}
        for width in widths(quantizer.bits):
            known = codes.total.clone()
            known[:, width:] = 0
            width_rows[width] = picture_row(pixels, self.tokenizer.decode(known).cpu(), used * width / quantizer.bits)
        if len(self.done) >= SHOWN:
            after = []
        row = picture_row(pixels, decoded, used)
        self.done.append(Reconstruction(medium.name, pixels, decoded, used, row, scale_rows, width_rows, after))

    @torch.no_grad()
    def _round_trip(self, pixels: Tensor):
        on = pixels.to(self.device)
        start = seconds_now(self.device)
        latent = self.tokenizer.encode(on).latent
        encoded = seconds_now(self.device)
        codes = self.tokenizer.quantizer.encode(latent)
        decoded = self.tokenizer.decode(codes.total)
        if decoded.shape != pixels.shape:
            raise ValueError(f"it decodes {tuple(pixels.shape)} to {tuple(decoded.shape)}")
        spent = {"encode": encoded - start, "decode": seconds_now(self.device) - encoded}
        return decoded.cpu(), codes, latent.shape[-2:], spent

    def result(self) -> dict:
        """What goes into the result file."""
        pixels = sum(r.original[:, 0].numel() for r in self.done)
        rows = [r.row for r in self.done]
        return {
            **summary(rows), "bits_per_pixel": sum(r.bits for r in self.done) / pixels,
            "after_scales": [{"scales": k + 1, **summary([r.scale_rows[min(k, len(r.scale_rows) - 1)] for r in self.done])}
                             for k in range(len(self.bits))],
            "after_bits": [{"bits": width, **summary([r.width_rows[width] for r in self.done])} for width in self.done[0].width_rows],
            "usage": [self._usage(scale) for scale in sorted(self.bits)],
            "speed": {
                **{f"{name}_per_s": len(self.done) / seconds for name, seconds in self.seconds.items()},
                **{f"{name}_megapixels_per_s": pixels / 1e6 / seconds for name, seconds in self.seconds.items()},
                "threads": torch.get_num_threads(), "device": self.device,
            },
            "media": [{"name": r.name, "frames": len(r.original), "height": r.original.shape[2], "width": r.original.shape[3], **r.row}
                      for r in self.done],
        }

    def _usage(self, scale: int) -> dict:
        bits = torch.cat(self.bits[scale])
        entropy = bit_entropy(bits.sum(0, dtype=torch.int64), len(bits))
        joint = joint_usage(bits)
        cells = sorted(self.cells[scale])
        return {
            "scale": scale + 1, "cells": [list(c) for c in cells], "positions": len(bits), "bit_entropy": entropy.tolist(),
            "mean_entropy": float(entropy.mean()), "alive_share": float((entropy >= ALIVE).double().mean()),
            "joint": joint.plain if joint else None,
        }


def widths(bits: int) -> list[int]:
    """Up to `WIDTHS` numbers of bits, the last all of them."""
    return sorted({max(1, round(bits * i / WIDTHS)) for i in range(1, WIDTHS + 1)})


def measure_vision(
    tokenizer: VisionTokenizer, media: Iterable[Medium], rejected: Rejected, bar: Progress, device: str = "cpu"
) -> VisionRun:
    """Everything that one kind of media shows. What the tokenizer refuses is listed."""
    run = VisionRun(tokenizer, device)
    for _ in rejected.taken(media, run.add):
        bar.advance(1, psnr=f"{run.done[-1].row['psnr_db']:.2f}")
    return run
