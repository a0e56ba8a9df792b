"""Texts that look real and are distinct, and slightly edited copies of them: the ground truth for `planted`.

A text is 4 to 9 sentences, drawn from 14 forms and about 300 words; two of them share about one word triple in fifty.
Ours: all of it.
"""

from __future__ import annotations

import numpy as np

_FORMS = (
    "the {n} of the {n} was {v} by a {a} {n} in {p}.", "in {y} the {n} from {p} {v} every {n} near the {a} {n}.",
    "{w} and {w} {v} the {n}, because the {n} had become {a}.", "no {n} could be {v} until {w} found the {a} {n}.",
    "most people in {p} think that a {a} {n} is better than a {a} {n}.", "after {k} hours the {n} {v} {k} {a} {n}s.",
    "{w} said: the {n} is {a}, but the {n} of {p} stays {a}.", "it took {k} {n}s and a {a} {n} to reach {p} in {y}.",
    "every {a} {n} needs a {n}, and {w} {v} both of them.", "the report of {y} names {k} {n}s that were {v} in {p}.",
    "a {n} that {v} the {n} was seen by {w} beside the {a} {n}.", "why should the {a} {n} of {w} be {v} with a {n}?",
    "{p} is known for its {a} {n}, its {n} and {k} {a} {n}s.", "when the {n} was {a}, {w} {v} a {n} for {k} days.",
)
_WORDS = {
    "n": """bridge river teacher market engine garden letter valley printer harbour mountain museum violin kitchen window doctor farmer
        station village winter library factory planet island lantern forest castle hospital ticket mirror blanket carpet hammer ladder
        needle orchard painting pocket quarry ribbon saddle tunnel umbrella vessel wagon anchor basket candle desert easel feather glacier
        hinge insect jacket kettle lemon meadow notebook oyster pebble quilt rocket shelter temple vineyard whistle yard zipper archive
        beacon compass dynamo embassy furnace granary helmet inlet journal keel locket monsoon nursery outpost pavilion reservoir sextant
        turbine viaduct workshop chapel drawbridge estuary foundry gallery""",
    "a": """old narrow silent bright heavy wooden distant careful golden shallow curious frozen modern gentle hollow crowded famous empty
        broken clever rusty patient northern ancient cheap dusty elegant fragile generous humid idle jagged lively muddy noisy orderly
        polished quaint rigid sturdy tidy uneven vivid weary young zealous bitter coastal damp""",
    "v": """repaired painted measured carried described opened rebuilt counted followed sold cleaned studied moved finished guarded
        hidden copied lifted drawn shaken borrowed crossed dried emptied filled gathered heated invented joined kept loaded mended named
        ordered packed raised sealed tested used washed""",
    "w": """anna bruno clara david elena felix greta hugo irene jonas karla lars mara nils olga paul rosa simon tilda viktor""",
    "p": """lisbon oslo vienna porto bergen lyon turin ghent leeds bremen cracow tartu malmo seville graz split verona basel cork""",
    "k": """two three four five six seven eight nine ten twelve twenty thirty forty sixty""",
    "y": " ".join(str(year) for year in range(1850, 2020, 3)),
}
_LISTS = {kind: words.split() for kind, words in _WORDS.items()}


def real_text(random: np.random.Generator) -> str:
    """One text, about 45 to 120 words."""
    return " ".join(_sentence(random) for _ in range(random.integers(4, 10)))


def edited(text: str, random: np.random.Generator, edits: int) -> str:
    """The text with some words, far from each other, replaced, left out or doubled."""
    words = text.split()
    for place in sorted(random.choice(len(words), edits, replace=False).tolist(), reverse=True):
        words[place:place + 1] = [[_word("n", random)], [], [words[place], words[place]]][random.integers(3)]
    return " ".join(words)


def restyled(text: str, random: np.random.Generator) -> str:
    """The same text for an exact comparison: other case, other white space, full-width letters."""
    words = text.split(" ")
    words = [word.upper() if random.random() < 0.2 else word for word in words]
    spaced = "".join(word + ("\n" if random.random() < 0.1 else "  " if random.random() < 0.2 else " ") for word in words)
    return f" {spaced}".replace("five", "ｆｉｖｅ")


def _sentence(random: np.random.Generator) -> str:
    form = _FORMS[random.integers(len(_FORMS))]
    parts = form.split("{")
    return parts[0] + "".join(_word(part[0], random) + part[2:] for part in parts[1:])


def _word(kind: str, random: np.random.Generator) -> str:
    return _LISTS[kind][random.integers(len(_LISTS[kind]))]
