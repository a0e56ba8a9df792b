"""How many bits of a vision token are on in which steps of a run: rules that need the tokenizer, and words.

    train.bits = 8, train.stages = [{from_step: 701, bits: 16}]    ->    the first 8 up to step 700, all 16 from step 701

Report: §2.2.1. Ours: the number is a function of the step alone, so a checkpoint of any step says it too. Letters: d bits of the tokenizer.
"""

from __future__ import annotations

from collections.abc import Sequence

from ernie5.train.steps import TrainConfig


def growth(config: TrainConfig) -> list[tuple[str, int, int]]:
    """(key, first step, bits) of the beginning and of every switch; nothing where all bits are on all the time."""
    if config.bits is None:
        return []
    later = [(f"train.stages[{i}].bits", s.from_step, s.bits) for i, s in enumerate(config.stages) if s.bits is not None]
    return [("train.bits", 1, config.bits), *later]


def check_growth(config: TrainConfig, bits: int, series: Sequence[int] = ()) -> None:
    """ValueError unless the vision tokenizer, of `bits` bits and with a decoder trained for `series`, has all widths of the run."""
    for key, _, width in growth(config):
        if width > bits:
            raise ValueError(f"{key} = {width} must be at most {bits}, the bits of the vision tokenizer; use {bits} or less, or a "
                             "tokenizer of more bits (tokenizers.vision.bits)")
        if series and width not in series:
            raise ValueError(f"{key} = {width} is none of tokenizers.vision.bit_series = {list(series)}, the widths that the decoder can "
                             "show; use one of them, or add it there")


def growth_words(config: TrainConfig, bits: int) -> str:
    """`8 of 16, 16 of 16 from step 700`; empty where all bits are on all the time."""
    return ", ".join(f"{width} of {bits}" + (f" from step {step}" if step > 1 else "") for _, step, width in growth(config))


def unseen_widths(config: TrainConfig, bits: int, series: Sequence[int]) -> list[int]:
    """Widths of the run that the decoder was not trained for: it shows them poorly."""
    return [width for _, _, width in growth(config) if width < bits and width not in series]
