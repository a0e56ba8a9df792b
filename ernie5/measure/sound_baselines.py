"""What Opus and MP3 make of the same sounds, one after the other at several bit rates.

    opus, mp3     the lowest setting whose rate is not below the tokenizer's; where even the lowest is above, that one
    opus_6k       Opus at 6 kbit/s, the lowest rate that its authors recommend: below, it leaves out most of the sound
`curves`: rate and distortion at all settings up to `TOP`. Rates are measured on the packets, not those that were asked for. Ours.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ernie5.measure.audio import HeardSound
from ernie5.measure.scores import Row, sound_row, summary
from ernie5.measure.sound_codecs import CodedSound, at_bit_rate, available
from ernie5.run.progress import Progress

TOP = 24_000  # bits / s
LOWEST_ADVISED = {"opus": 6_000}


def sound_baselines(done: Sequence[HeardSound], sample_rate_hz: int, bar: Progress) -> tuple[dict, dict[str, dict[str, Tensor]]]:
    """Figures by baseline, and its sounds by name of the medium."""
    seconds = sum(len(r.original) for r in done) / sample_rate_hz
    ours = sum(r.bits for r in done) / seconds
    result: dict = {"curves": {}}
    sounds: dict[str, dict[str, Tensor]] = {r.name: {} for r in done}
    for name, kind in available().items():
        points, chosen = [], None
        for bit_rate in kind.bit_rates:
            if bit_rate > TOP and chosen:
                break
            coded = [at_bit_rate(name, r.original, sample_rate_hz, bit_rate) for r in done]
            point = {"asked_bits_per_second": bit_rate, **summary(_rows(done, coded, sample_rate_hz)),
                     "bits_per_second": sum(c.bits for c in coded) / seconds}
            points.append(point)
            picked = [name] if chosen is None and point["bits_per_second"] >= ours else []
            chosen = point if picked else chosen
            if bit_rate == LOWEST_ADVISED.get(name):
                picked.append(f"{name}_{bit_rate // 1000}k")
            for baseline in picked:
                result[baseline] = point
                for item, c in zip(done, coded, strict=True):
                    sounds[item.name][baseline] = c.sound
            bar.advance(len(done))
        result["curves"][name] = points
    return result, sounds


def num_passes() -> int:
    """How many settings are tried for each sound, at most (for the progress bar)."""
    return sum(sum(rate <= TOP for rate in kind.bit_rates) for kind in available().values())


def _rows(done: Sequence[HeardSound], coded: Sequence[CodedSound], sample_rate_hz: int) -> list[Row]:
    return [sound_row(r.original, c.sound, sample_rate_hz, c.bits) for r, c in zip(done, coded, strict=True)]
