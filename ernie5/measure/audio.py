"""All measures of an audio tokenizer.

    sound -> codes f Q -> sound, cut to the length that it had            rate = f Q log2 K bits / seconds of the sound
    after q levels     `decode` of the first q columns, where the tokenizer takes fewer than all
    usage              of each level over the frames that are not silent: louder than `SILENT_DB` below a full-scale sine
    real-time factor   seconds of sound per second of work; the first sound warms up and is timed again
Ours. Letters: n samples, f codec frames, Q levels, K codes.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from ernie5.measure.clock import seconds_now
from ernie5.measure.code_usage import codebook_usage
from ernie5.measure.media import Medium, Rejected
from ernie5.measure.scores import Row, sound_row, summary
from ernie5.run.progress import Progress
from ernie5.tokenizers.base import AudioTokenizer

SILENT_DB = -50.0


@dataclass
class HeardSound:
    """A sound, what came back, and its figures."""

    name: str
    original: Tensor           # float n
    decoded: Tensor
    bits: float
    row: Row
    level_rows: list[Row]      # after 1, 2, .. levels; empty where the tokenizer decodes all levels only


@dataclass
class AudioRun:
    """Everything that was seen of the sounds."""

    tokenizer: AudioTokenizer
    device: str = "cpu"
    done: list[HeardSound] = field(default_factory=list)
    codes: list[Tensor] = field(default_factory=list)  # f Q, of loud frames
    num_silent: int = 0
    seconds: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})

    @torch.no_grad()
    def add(self, medium: Medium) -> None:
        """Measure one. ValueError when the tokenizer refuses it."""
        sound, tokenizer = medium.media, self.tokenizer
        on = sound.to(self.device)
        if not self.done:
            tokenizer.decode(tokenizer.encode(on))
        start = seconds_now(self.device)
        codes = tokenizer.encode(on)
        encoded = seconds_now(self.device)
        decoded = self._fit(tokenizer.decode(codes), sound)
        if not decoded.isfinite().all():
            raise ValueError("what it decodes holds values that are no numbers")
        self.seconds["decode"] += seconds_now(self.device) - encoded
        self.seconds["encode"] += encoded - start
        frame_bits, rate_hz = math.log2(tokenizer.codebook_size), tokenizer.sample_rate_hz
        bits = codes.numel() * frame_bits
        level_rows = []
        for level in range(1, tokenizer.num_codebooks + 1):
            try:
                cut = self._fit(tokenizer.decode(codes[:, :level]), sound)
            except ValueError:
                break
            level_rows.append(sound_row(sound, cut, rate_hz, len(codes) * level * frame_bits))
        loud = loud_frames(sound, len(codes), rate_hz / tokenizer.frame_rate_hz)
        self.codes.append(codes.cpu()[loud])
        self.num_silent += int((~loud).sum())
        if len(level_rows) < tokenizer.num_codebooks:
            level_rows = []
        self.done.append(HeardSound(medium.name, sound, decoded, bits, sound_row(sound, decoded, rate_hz, bits), level_rows))

    def result(self) -> dict:
        """What goes into the result file."""
        rate_hz, size = self.tokenizer.sample_rate_hz, self.tokenizer.codebook_size
        seconds = sum(len(r.original) for r in self.done) / rate_hz
        codes = torch.cat(self.codes)
        levels = [r.level_rows for r in self.done]
        after = [{"levels": q + 1, **summary([rows[q] for rows in levels])} for q in range(len(levels[0]))] if all(levels) else None
        return {
            **summary([r.row for r in self.done]), "bits_per_second": sum(r.bits for r in self.done) / seconds, "seconds": seconds,
            "nominal_bits_per_second": self.tokenizer.frame_rate_hz * self.tokenizer.num_codebooks * math.log2(size),
            "after_levels": after,
            "usage": [{"level": q + 1, **codebook_usage(column, size).plain} for q, column in enumerate(codes.unbind(1))],
            "frames": {"loud": len(codes), "silent": self.num_silent, "silent_below_db": SILENT_DB},
            "speed": {**{f"{name}_real_time_factor": seconds / spent for name, spent in self.seconds.items()},
                      "threads": torch.get_num_threads(), "device": self.device},
            "media": [{"name": r.name, "seconds": len(r.original) / rate_hz, **r.row} for r in self.done],
        }

    def _fit(self, decoded: Tensor, sound: Tensor) -> Tensor:
        """As long as the sound: a codec gives whole frames."""
        decoded = decoded.cpu().float()[:len(sound)]
        return torch.nn.functional.pad(decoded, (0, len(sound) - len(decoded)))


def loud_frames(sound: Tensor, num_frames: int, frame_samples: float) -> Tensor:
    """float `n` -> bool `f`: which codec frames are louder than `SILENT_DB` (0 dB: a full-scale sine)."""
    edges = [round(i * frame_samples) for i in range(num_frames + 1)]
    pieces = [sound[a:b] for a, b in zip(edges, edges[1:], strict=False)]
    power = torch.stack([piece.square().mean() if len(piece) else sound.new_zeros(()) for piece in pieces])
    return 10 * torch.log10(2 * power + 1e-20) > SILENT_DB


def measure_audio(tokenizer: AudioTokenizer, media: Iterable[Medium], rejected: Rejected, bar: Progress, device: str = "cpu") -> AudioRun:
    """Everything that sounds show. What the tokenizer refuses is listed."""
    run = AudioRun(tokenizer, device)
    for _ in rejected.taken(media, run.add):
        bar.advance(1, log_mel=f"{run.done[-1].row['log_mel_distance']:.3f}")
    return run
