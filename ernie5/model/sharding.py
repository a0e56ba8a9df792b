"""What of the model can be split, and along which dimension: a table of names, first match wins.

    column    rows of the weight `out in` (dim 0): each tensor rank computes its own outputs          query, key, value
    row       its columns (dim 1): partial sums, added up over tensor ranks                           attention output
    vocab     rows of a table or head over text ids (dim 0)                                           text embedding, text head
    expert    whole experts (dim 0) over expert ranks
    replicate nothing is split

This is data: engines read it to split, checkpoints to say where a part lies, the planner to count. Ours.
"""

from __future__ import annotations

import re
from typing import Literal

Split = Literal["column", "row", "vocab", "expert", "replicate"]

RULES: tuple[tuple[str, Split], ...] = (
    (r"(.*\.)?attention\.(query|key|value)\.weight", "column"),
    (r"(.*\.)?attention\.out\.weight", "row"),
    (r"(.*\.)?moe\.experts\.(up|down)", "expert"),
    (r"embeddings\.text\.weight|heads\.text\.weight", "vocab"),
    (r".*", "replicate"),
)
UNDERSTANDING = "embeddings.understanding."  # another module's names: never split


def split_of(name: str) -> Split:
    """How the parameter or buffer of this name (as the model has it on one process) is split."""
    if name.startswith(UNDERSTANDING):
        return "replicate"
    return next(split for pattern, split in RULES if re.fullmatch(pattern, name))


def split_dim(split: Split) -> int | None:
    """The dimension along which it is cut; None = it is not."""
    return {"column": 0, "row": 1, "vocab": 0, "expert": 0, "replicate": None}[split]
