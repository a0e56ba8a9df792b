"""One fixed caption form a kind, and its exact inverse.

    image   a small red circle at the top left
    video   a red circle moves left
    audio   a square tone at c4 with three beeps
Pictures and clips share their words. `parse_caption` judges the model's captions, so it accepts nothing but a caption.
"""

from __future__ import annotations

from functools import cache

from ernie5.data_pipelines.synthetic.combinations import Combination, all_combinations


def caption(combination: Combination) -> str:
    """The caption of a combination: lower case, words separated by one space, no full stop."""
    match combination.kind, combination.values:
        case "image", (shape, colour, size, position):
            return f"a {size} {colour} {shape} at the {position}"
        case "video", (shape, colour, motion):
            return f"a {colour} {shape} {motion}"
        case "audio", (timbre, pitch, beeps):
            return f"a {timbre} tone at {pitch} with {beeps} {beep_word(beeps)}"
    raise AssertionError(combination)


def beep_word(count: str) -> str:
    """"beep" after "one", else "beeps"."""
    return "beep" if count == "one" else "beeps"


def parse_caption(kind: str, text: str) -> dict[str, str] | None:
    """The attributes a caption names, or None when `text` (spaces at both ends aside) is no caption of this kind."""
    combination = _by_caption(kind).get(text.strip())
    return None if combination is None else combination.attributes


@cache
def _by_caption(kind: str) -> dict[str, Combination]:
    return {caption(combination): combination for combination in all_combinations(kind)}
