"""Plain text about the demo world: one to three short sentences a line, 12 to 33 words.

What is true of the world stands in it (c5 is higher than a4, a shape that moves left starts at the right), so that a model can
learn more than word counts. Sentences that name every attribute of a kind use the given combinations only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ernie5.data_pipelines.synthetic.captions import beep_word, caption
from ernie5.data_pipelines.synthetic.combinations import BEEPS, COLOURS, PITCHES, POSITIONS, SHAPES, SIZES, TIMBRES, Combination

MIN_WORDS = 12
OPPOSITE = {"left": "right", "right": "left", "up": "down", "down": "up"}
PLACE = {"left": "left", "right": "right", "up": "top", "down": "bottom"}


@dataclass(frozen=True)
class Draw:
    """Draws words and combinations for one line of text."""

    pools: Mapping[str, Sequence[Combination]]
    generator: np.random.Generator

    def one(self, words: Sequence[str]) -> str:
        """One of `words`."""
        return words[int(self.generator.integers(len(words)))]

    def two(self, words: Sequence[str]) -> list[str]:
        """Two different ones of `words`, in their order."""
        return [words[i] for i in sorted(self.generator.permutation(len(words))[:2])]

    def combination(self, kind: str) -> Combination:
        """One of the combinations of a kind that may be named in full."""
        pool = self.pools[kind]
        return pool[int(self.generator.integers(len(pool)))]


def text_line(pools: Mapping[str, Sequence[Combination]], generator: np.random.Generator) -> str:
    """One line. `pools`: per kind the combinations that may be named in full (the training ones, for training)."""
    draw = Draw(pools, generator)
    sentences: list[str] = []
    while sum(len(sentence.split()) for sentence in sentences) < MIN_WORDS:
        sentences.append(FORMS[generator.integers(len(FORMS))](draw))
    return " ".join(sentences)


def describe_picture(draw: Draw) -> str:
    return f"the picture shows {caption(draw.combination('image'))}."


def describe_place(draw: Draw) -> str:
    picture = draw.combination("image")
    return f"at the {picture['position']} there is a {picture['size']} {picture['shape']}, and it is {picture['colour']}."


def describe_clip(draw: Draw) -> str:
    clip = draw.combination("video")
    direction = clip["motion"].split()[1]
    if direction == "still":
        return f"in the clip {caption(clip)} at the centre."
    return f"in the clip {caption(clip)}, so it starts at the {PLACE[OPPOSITE[direction]]} and ends at the {PLACE[direction]}."


def describe_sound(draw: Draw) -> str:
    return f"you hear {caption(draw.combination('audio'))}."


def count_beeps(draw: Draw) -> str:
    last = draw.generator.integers(1, len(BEEPS))
    counted = ", ".join(BEEPS[:last])
    return f"we count the beeps: {counted} and {BEEPS[last]}."


def one_more_beep(draw: Draw) -> str:
    count = draw.generator.integers(len(BEEPS) - 1)
    return f"{BEEPS[count]} {beep_word(BEEPS[count])} and one more make {BEEPS[count + 1]} beeps."


def compare_sizes(draw: Draw) -> str:
    first, second = draw.one(SHAPES), draw.one(SHAPES)
    if draw.generator.random() < 0.5:
        return f"a big {first} is bigger than a small {second}."
    return f"a small {first} is smaller than a big {second}."


def compare_pitches(draw: Draw) -> str:
    low, high = draw.two(PITCHES)
    return f"{high} is higher than {low}." if draw.generator.random() < 0.5 else f"{low} is lower than {high}."


def compare_colours(draw: Draw) -> str:
    (one, other), (shape, second) = draw.two(COLOURS), draw.two(SHAPES)
    return f"the {shape} is {one} and the {second} is {other}, so the {one} shape is the {shape}."


def ask_colour(draw: Draw) -> str:
    colour, shape, size = draw.one(COLOURS), draw.one(SHAPES), draw.one(SIZES)
    return f"which colour has the {size} {colour} {shape}? it is {colour}."


def ask_beeps(draw: Draw) -> str:
    count, timbre = draw.one(BEEPS), draw.one(TIMBRES)
    return f"how many beeps has a {timbre} tone with {count} {beep_word(count)}? it has {count}."


def other_corner(draw: Draw) -> str:
    vertical, horizontal = draw.one(POSITIONS).split()
    return f"the other side of the {vertical} {horizontal} is the {vertical} {OPPOSITE[horizontal]}."


FORMS = (
    describe_picture, describe_place, describe_clip, describe_sound, count_beeps, one_more_beep, compare_sizes, compare_pitches,
    compare_colours, ask_colour, ask_beeps, other_corner,
)
